import { expect, test } from 'vitest';
import { noGrad } from '../../src/tensor/autograd.ts';
import { randn, tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { crossEntropy, linear } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { cappedCrossEntropy } from '../../src/train/capped-loss.ts';
import '../matchers.ts';

const labels = tensor([3, 0, 8, 8, 1, 5, 2], { dtype: 'int64' });

/** A hidden state that is no leaf, and a head; their leaves learn. */
function make(): { leaves: Tensor[]; hidden: Tensor; weight: Tensor; bias: Tensor } {
  const generator = new Generator(2);
  const [x, weight, bias] = [randn([7, 4], { generator }), randn([9, 4], { generator }), randn([9], { generator })] as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const leaves = [x, weight, bias].map((leaf) => leaf.requiresGrad_());
  return { leaves, hidden: x.mul(1.5), weight, bias };
}

const plain = ({ hidden, weight, bias }: ReturnType<typeof make>): Tensor =>
  crossEntropy(linear(hidden, weight, bias).div(2).tanh().mul(2), labels, { reduction: 'sum' });

test.each([1, 3, 7, 100])('the loss of capped logits in chunks of %i has the value and gradients of the whole', (chunk) => {
  const [whole, chunked] = [make(), make()];
  plain(whole).div(3).backward();
  const loss = cappedCrossEntropy(chunked.hidden, { ...chunked, cap: 2 }, labels, { chunk });
  expect(loss.item()).toBeCloseTo(plain(whole).item(), 4);
  loss.div(3).backward();
  for (const [i, leaf] of chunked.leaves.entries()) expect(leaf.grad).toMatchTensor(whole.leaves[i]?.grad ?? []);
});

test('a frozen head gets no gradient, and without a graph there is the value alone', () => {
  const { hidden, weight, bias, leaves } = make();
  for (const leaf of [weight, bias]) leaf.requiresGrad_(false);
  cappedCrossEntropy(hidden, { weight, bias, cap: 2 }, labels, { chunk: 2 }).backward();
  expect(leaves.map(({ grad }) => grad !== undefined)).toEqual([true, false, false]);
  const value = noGrad(() => cappedCrossEntropy(hidden, { weight, cap: 2 }, labels, { chunk: 2 }));
  expect([value.requiresGrad, value.shape]).toEqual([false, []]);
});

test('it gives back all it took', () => {
  const made = make();
  const before = liveTensors();
  {
    using _scope = new Scope();
    cappedCrossEntropy(made.hidden, { ...made, cap: 2 }, labels, { chunk: 3 });
  }
  expect(liveTensors()).toBe(before);
});
