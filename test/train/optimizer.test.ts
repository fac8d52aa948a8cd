import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { clipGradients } from '../../src/train/clip.ts';
import { AdamW } from '../../src/train/optimizer.ts';
import '../matchers.ts';

interface Setting {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly c: Tensor;
  readonly optimizer: AdamW;
}

function setting(): Setting {
  const [a, b, c] = [tensor([1, -2, 3]), tensor([[0.5, 0.25]]), tensor([7])] as const;
  for (const parameter of [a, b, c]) parameter.requiresGrad_();
  const groups = [
    { parameters: new Map([['a', a]]), learningRate: 0.1, weightDecay: 0.01 },
    { parameters: new Map(Object.entries({ b, c })), learningRate: 0.2, weightDecay: 0 },
  ];
  return { a, b, c, optimizer: new AdamW(groups, { betas: [0.8, 0.95], eps: 1e-6 }) };
}

/** Step i of the loop whose results in PyTorch stand below; `c` has a gradient in every other step only. */
function step({ a, b, c, optimizer }: Setting, i: number): number {
  using _scope = new Scope();
  optimizer.zeroGradients();
  a.grad = tensor([0.5, -1, 2]).mul(i + 1);
  b.grad = tensor([[-0.1, 0.2]]).div(i + 1);
  if (i % 2 === 1) c.grad = tensor([3]);
  const norm = clipGradients(optimizer.gradients(), 3);
  optimizer.step(1);
  return norm;
}

test('four clipped steps of two groups are those of PyTorch', () => {
  const run = setting();
  const norms = [0, 1, 2, 3].map((i) => step(run, i));
  for (const [i, norm] of [2.3021729, 5.4783669, 6.8742681, 9.6438131].entries()) expect(norms[i]).toBeCloseTo(norm, 5);
  expect(run.a).toMatchTensor([0.5943214, -1.5903271, 2.5863328], { atol: 1e-6 });
  expect(run.b).toMatchTensor([1.1219081, -0.3719125], { atol: 1e-6 });
  expect(run.c).toMatchTensor([6.6118436], { atol: 1e-6 });
});

test('a state that was saved and loaded goes on with the same bits', () => {
  const unbroken = setting();
  for (const i of [0, 1, 2, 3]) step(unbroken, i);
  const first = setting();
  for (const i of [0, 1]) step(first, i);
  const file = join(mkdtempSync(join(tmpdir(), 'tinyllava-')), 'optimizer.safetensors');
  writeSafetensors(file, first.optimizer.state());
  const second = { ...first, optimizer: setting().optimizer };
  const groups = [
    { parameters: new Map([['a', first.a]]), learningRate: 0.1, weightDecay: 0.01 },
    { parameters: new Map(Object.entries({ b: first.b, c: first.c })), learningRate: 0.2, weightDecay: 0 },
  ];
  const resumed = { ...second, optimizer: new AdamW(groups, { betas: [0.8, 0.95], eps: 1e-6 }) };
  resumed.optimizer.load(openSafetensors(file));
  for (const i of [2, 3]) step(resumed, i);
  for (const name of ['a', 'b', 'c'] as const) expect(resumed[name].equal(unbroken[name]), name).toBe(true);
});

test('a state of other parameters is refused', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'tinyllava-')), 'optimizer.safetensors');
  writeSafetensors(file, [['a.mean', tensor([0])]]);
  const load = () => setting().optimizer.load(openSafetensors(file));
  expect(load).toThrow('optimizer.safetensors: the optimizer state is of another stage: a.square, a.steps, b.mean');
});

test('steps leave no tensors behind, and freeing gives the state back', () => {
  const before = liveTensors();
  const run = setting();
  const made = liveTensors();
  for (const i of [0, 1, 2]) step(run, i);
  expect(liveTensors()).toBe(made);
  run.optimizer.free();
  for (const parameter of [run.a, run.b, run.c]) parameter.free();
  expect(liveTensors()).toBe(before);
});
