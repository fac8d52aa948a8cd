import { noGrad } from '../../src/tensor/autograd.ts';
import { randn } from '../../src/tensor/create.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { milliseconds, print } from '../measure.ts';

const [a, b] = [randn([4, 4]), randn([4, 4])];
const [c, d] = [randn([4, 4]).requiresGrad_(), randn([4, 4]).requiresGrad_()];

/** Nanoseconds of one call. The results live in a scope of 20 calls, about those of a layer. */
function nanoseconds(call: () => Tensor): number {
  const body = (): void => {
    for (let i = 0; i < 500; i++) {
      using _scope = new Scope();
      for (let j = 0; j < 20; j++) call();
    }
  };
  return milliseconds(body, { times: 31, warmup: 10 }) * 100;
}

const metrics = {
  ...noGrad(() => ({
    add: nanoseconds(() => a.add(b)),
    view: nanoseconds(() => a.view(2, 8)),
    matmul: nanoseconds(() => a.matmul(b)),
  })),
  'add with grad': nanoseconds(() => c.add(d)),
  'view with grad': nanoseconds(() => c.view(2, 8)),
  'matmul with grad': nanoseconds(() => c.matmul(d)),
};
print({ metrics });
