import { expect, test } from 'vitest';
import { enableGrad, gradients, isGradEnabled, noGrad } from '../../src/tensor/autograd.ts';
import { ones, randn, tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { crossEntropy, fusedAdamW, gelu, layerNorm, linear } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';

test('backward adds to the gradients of leaves', () => {
  const x = tensor([1, 2, 3]).requiresGrad_();
  x.mul(x).sum().backward();
  expect(x.grad?.toList()).toEqual([2, 4, 6]);
  x.mul(2).backward(ones([3]));
  expect(x.grad?.toList()).toEqual([4, 6, 8]);
  x.grad = undefined;
  expect(x.grad).toBeUndefined();
});

test('gradients of unused inputs are undefined and .grad stays untouched', () => {
  const [x, y] = [tensor([2]).requiresGrad_(), tensor([3]).requiresGrad_()];
  const [dx, dy] = gradients([x.mul(x)], [x, y]);
  expect([dx?.item(), dy]).toEqual([4, undefined]);
  expect(x.grad).toBeUndefined();
});

test('noGrad and enableGrad nest and are undone by exceptions', () => {
  expect(() =>
    noGrad(() => {
      expect(isGradEnabled()).toBe(false);
      enableGrad(() => expect(isGradEnabled()).toBe(true));
      throw new Error('stop');
    }),
  ).toThrow('stop');
  expect(isGradEnabled()).toBe(true);
});

test('analytic gradients agree with finite differences', () => {
  const generator = new Generator(0);
  const make = (...shape: number[]) => randn(shape, { generator, dtype: 'float64' });
  const [x, w, b, g] = [make(4, 5), make(3, 5), make(3), make(3)];
  const labels = tensor(new BigInt64Array([0n, 2n, -100n, 1n]));
  const loss = () => crossEntropy(layerNorm(gelu(linear(x, w, b)), g, b, 1e-5), labels);
  for (const leaf of [x, w, b, g]) leaf.requiresGrad_();
  loss().backward();
  for (const leaf of [x, w, b, g]) {
    const analytic = leaf.grad?.toArray() as Float64Array;
    const values = leaf.detach().view(-1);
    for (let i = 0; i < leaf.numel; i += 3) {
      const at = (delta: number) =>
        noGrad(() => {
          values.narrow(0, i, 1).add_(delta);
          return loss().item();
        });
      const step = 1e-6;
      const numeric = (at(step) - at(-2 * step)) / (2 * step);
      at(step);
      expect(analytic[i]).toBeCloseTo(numeric, 6);
    }
  }
});

test('a scope around a forward pass leaves the graph whole and gives every handle back', () => {
  const before = liveTensors();
  {
    using outer = new Scope();
    const w = randn([4, 4]).requiresGrad_();
    let x = ones([2, 4]);
    for (let layer = 0; layer < 3; layer++) {
      using scope = new Scope();
      x = scope.keep(gelu(linear(x, w)));
    }
    x.sum().backward();
    expect(w.grad?.shape).toEqual([4, 4]);
    outer.keep([]);
  }
  expect(liveTensors()).toBe(before);
});

test('a fused AdamW step is the published update', () => {
  const [p, g] = [tensor([1, -2]), tensor([0.5, 0.25])];
  const [m, v, t] = [tensor([0, 0]), tensor([0, 0]), tensor([1])];
  fusedAdamW(
    { parameters: [p], gradients: [g], means: [m], squares: [v], steps: [t] },
    { learningRate: 0.1, betas: [0.9, 0.999], weightDecay: 0.01, eps: 1e-8 },
  );
  // After one step the corrected means equal the gradients, so that the update is their sign.
  const expected = [1 * (1 - 0.001) - 0.1, -2 * (1 - 0.001) - 0.1];
  expect(p.toArray()[0]).toBeCloseTo(expected[0] ?? 0, 6);
  expect(p.toArray()[1]).toBeCloseTo(expected[1] ?? 0, 6);
});

test('writing in place to a leaf that needs a gradient is refused outside noGrad', () => {
  const x = ones([1]).requiresGrad_();
  expect(() => x.add_(1)).toThrow('a leaf Variable that requires grad is being used in an in-place operation');
  expect(noGrad(() => x.add_(1)).item()).toBe(2);
});
