import { expect } from 'vitest';
import { gradients, noGrad } from '../../src/tensor/autograd.ts';
import { empty, randn, zeros } from '../../src/tensor/create.ts';
import type { DType } from '../../src/tensor/dtype.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

export const random = (shape: readonly number[], dtype: DType, seed = 1): Tensor =>
  randn(shape, { generator: new Generator(seed) }).cast(dtype);
export const exact = (x: Tensor): Tensor => x.detach().cast('float64');

/** Within a few units in the last place of the largest expected value. */
export function expectClose(received: Tensor, expected: Tensor, factor = 1, dtype = received.dtype): void {
  const largest = expected.numel > 0 ? expected.abs().amax().item() : 0;
  const atol = factor * (dtype === 'bfloat16' ? 2 ** -8 : 2e-6) * Math.max(1, largest);
  expect(received.cast('float64')).toMatchTensor(expected.cast('float64'), { atol });
}

/** The value of `body` and the gradients of its sum weighted by `outer`. */
export function withGradients(
  body: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  outer: Tensor,
): { value: Tensor; grads: Tensor[] } {
  const leaves = inputs.map((x) => x.detach().requiresGrad_());
  const value = body(...leaves);
  return {
    value: value.detach(),
    grads: gradients([value], leaves, [outer.cast(value.dtype)]).map((g, i) => g ?? zeros(leaves[i]?.shape ?? [])),
  };
}

/** `kernel` gives what `reference` gives in float64, and so do its gradients. */
export function expectSame(
  kernel: (...inputs: Tensor[]) => Tensor,
  reference: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  factor = 1,
) {
  const shape = noGrad(() => kernel(...inputs)).shape;
  const outer = random(shape, 'float32', 77);
  const [received, expected] = [withGradients(kernel, inputs, outer), withGradients(reference, inputs.map(exact), outer)];
  const dtype = inputs[0]?.dtype;
  expectClose(received.value, expected.value, factor, dtype);
  expectClose(
    noGrad(() => kernel(...inputs)),
    expected.value,
    factor,
    dtype,
  );
  for (const [i, grad] of expected.grads.entries()) {
    expect(received.grads[i]?.dtype).toBe(inputs[i]?.dtype);
    expectClose(received.grads[i] ?? empty([0]), grad, 2 * factor);
  }
}
