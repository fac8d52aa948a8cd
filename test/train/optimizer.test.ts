import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { full, randn, tensor, zeros } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import type { DType } from '../../src/tensor/dtype.ts';
import { adamW_, joinHalves, splitHalves_ } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { clipFactor, gradientNorm } from '../../src/train/clip.ts';
import { wholeWeight } from '../../src/train/precision.ts';
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
  const norm = gradientNorm(optimizer.gradients());
  optimizer.step(1, { scale: clipFactor(norm, 3) });
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
  writeSafetensors(file, first.optimizer.snapshot());
  const second = { ...first, optimizer: setting().optimizer };
  const groups = [
    { parameters: new Map([['a', first.a]]), learningRate: 0.1, weightDecay: 0.01 },
    { parameters: new Map(Object.entries({ b: first.b, c: first.c })), learningRate: 0.2, weightDecay: 0 },
  ];
  const resumed = { ...second, optimizer: new AdamW(groups, { betas: [0.8, 0.95], eps: 1e-6 }) };
  resumed.optimizer.restore(openSafetensors(file));
  for (const i of [2, 3]) step(resumed, i);
  for (const name of ['a', 'b', 'c'] as const) expect(resumed[name].equal(unbroken[name]), name).toBe(true);
});

test('a state of other parameters is refused', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'tinyllava-')), 'optimizer.safetensors');
  writeSafetensors(file, [['weights.a', tensor([0])]]);
  const load = () => setting().optimizer.restore(openSafetensors(file));
  expect(load).toThrow('optimizer.safetensors: the optimizer state is of another stage: weights.b, weights.c, optimizer.a.mean');
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

/** A parameter of `count` values that starts at `start`, alone in an optimizer, with what makes float32 of it beside it or not. */
function alone(count: number, start: number, beside?: Tensor, dtype: 'bfloat16' | 'float16' = 'bfloat16') {
  const parameter = full([count], start, { dtype }).requiresGrad_();
  const masters = new Map(beside ? [['a', beside]] : []);
  const groups = [{ parameters: new Map([['a', parameter]]), learningRate: 1e-3, weightDecay: 0.1 }];
  return { parameter, optimizer: new AdamW(groups, { betas: [0.9, 0.99], eps: 1e-8, masters, seed: 5 }) };
}

test('halves of numbers are those numbers, the upper ones the nearest', () => {
  using _scope = new Scope();
  const tied = [
    0, 0x8000, 0x3f808000, 0x3f818000, 0xbf808000, 0x3f807fff, 0x3f808001, 0x7f7fffff, 0x7f800000, 0xff800000, 1, 0x80000001, 0x7f7f8000,
  ];
  const any = Array.from({ length: 5000 }, (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 0).filter(
    (word) => (word & 0x7f800000) !== 0x7f800000,
  );
  const words = Uint32Array.from([...tied, ...any]);
  const values = tensor(new Float32Array(words.buffer));
  const [upper, lower] = [zeros([words.length], { dtype: 'bfloat16' }), zeros([words.length], { dtype: 'int16' })];
  splitHalves_(upper, lower, values);
  expect(new Uint32Array((joinHalves(upper, lower).toArray() as Float32Array).buffer)).toEqual(words);
  const [nearest, own] = [values.cast('bfloat16').toArray(), upper.toArray()] as [Float32Array, Float32Array];
  const differing = [...words].filter((_, i) => !Object.is(nearest[i], own[i]));
  // Rounding to even goes down where the upper half is even and the lower one in the middle.
  expect(differing.map((word) => word & 0x1ffff)).toEqual(differing.map(() => 0x8000));
  expect(differing.length).toBeGreaterThan(2);
});

test.each(['bfloat16', 'float16'] as const)(
  'what %s parameters stand for is updated as float32 parameters with the same gradients',
  (dtype) => {
    using _scope = new Scope();
    const generator = new Generator(1);
    const count = 20_011;
    const beside = dtype === 'bfloat16' ? zeros([count], { dtype: 'int16' }) : full([count], 1.5);
    const { parameter, optimizer } = alone(count, 1.5, beside, dtype);
    const plain = full([count], 1.5).requiresGrad_();
    const reference = new AdamW([{ parameters: new Map([['a', plain]]), learningRate: 1e-3, weightDecay: 0.1 }], {
      betas: [0.9, 0.99],
      eps: 1e-8,
    });
    for (let i = 0; i < 20; i++) {
      const gradient = randn([count], { generator }).cast(dtype);
      parameter.grad = gradient;
      plain.grad = gradient.cast('float32');
      optimizer.step(0.5, { scale: 0.25 });
      reference.step(0.5, { scale: 0.25 });
    }
    // Each is within 1.4e-6 of the same sums in float64: 20 roundings of numbers around 1.5.
    const weight = wholeWeight(parameter, beside);
    expect(weight).toMatchTensor(plain.detach(), { atol: 2.5e-6 });
    expect(parameter.detach().cast('float32')).toMatchTensor(weight, { atol: dtype === 'bfloat16' ? 2 ** -8 : 2 ** -11 });
  },
);

test('bfloat16 alone keeps on average what rounding to the nearest would lose', () => {
  using _scope = new Scope();
  const count = 40_003;
  const { parameter, optimizer } = alone(count, 1);
  const { parameter: again, optimizer: second } = alone(count, 1);
  const lower = zeros([count], { dtype: 'int16' });
  const { parameter: rounded, optimizer: exact } = alone(count, 1, lower);
  for (let i = 0; i < 8; i++) {
    for (const one of [parameter, again, rounded]) one.grad = full([count], 0.5, { dtype: 'bfloat16' });
    for (const one of [optimizer, second, exact]) one.step(0.2);
  }
  // Eight steps of 2e-4 are 1.6e-3, and 1 - 2^-8 is the next number below 1.
  const mean = parameter.detach().cast('float32').mean().item();
  expect(Math.abs(mean - joinHalves(rounded, lower).mean().item())).toBeLessThan(1e-4);
  expect(new Set(parameter.toArray() as Float32Array).size).toBeGreaterThan(1);
  expect(again.equal(parameter)).toBe(true);
});

test('other layouts and dtypes take the same steps, by operators of libtorch', () => {
  using _scope = new Scope();
  const generator = new Generator(2);
  const [rows, columns] = [37, 5];
  const update = (dtype: 'bfloat16' | 'float16', strided: boolean, whole: boolean) => {
    const made = (of: DType, value = 0.75): Tensor =>
      strided ? full([columns, rows], value, { dtype: of }).t() : full([rows, columns], value, { dtype: of });
    const kept = whole ? ('float32' as const) : ('bfloat16' as const);
    const state = {
      parameter: made(dtype),
      ...(whole && { master: dtype === 'bfloat16' ? made('int16', 0) : made('float32') }),
      gradient: values.cast('bfloat16').cast(dtype),
      mean: made(kept).mul_(0.1),
      square: made(kept).mul_(0.2),
    };
    const options = { learningRate: 1e-2, betas: [0.9, 0.95] as const, weightDecay: 0.1, eps: 1e-8, step: 3, scale: 0.5, noise: 77 };
    adamW_(state, options);
    return state;
  };
  const values = randn([rows, columns], { generator });
  const [kernel, operators] = [update('bfloat16', false, false), update('bfloat16', true, false)];
  for (const name of ['parameter', 'mean', 'square'] as const) expect(kernel[name].equal(operators[name]), name).toBe(true);
  const [fast, slow, half] = [update('bfloat16', false, true), update('bfloat16', true, true), update('float16', true, true)];
  const weight = ({ parameter, master }: typeof fast): Tensor => wholeWeight(parameter, master as Tensor);
  expect(weight(slow)).toMatchTensor(weight(fast), { atol: 1e-6 });
  expect(weight(half)).toMatchTensor(weight(fast), { atol: 1e-6 });
  expect(half.parameter.equal(weight(half).cast('float16'))).toBe(true);
});

test('gradients of micro-batches are added up in float32', () => {
  using _scope = new Scope();
  const { parameter, optimizer } = alone(3, 1, zeros([3], { dtype: 'int16' }));
  // In bfloat16 the sum would stay at 256, where 1 is half of the distance to the next number.
  for (let i = 0; i < 300; i++) {
    parameter.grad = full([3], 1, { dtype: 'bfloat16' });
    optimizer.bank();
  }
  expect(optimizer.banked).toBe(true);
  expect(parameter.grad).toBeUndefined();
  expect(optimizer.gradients().map((gradient) => [gradient.dtype, ...(gradient.toArray() as Float32Array)])).toEqual([
    ['float32', 300, 300, 300],
  ]);
  optimizer.zeroGradients();
  expect([optimizer.banked, optimizer.gradients().length]).toEqual([false, 0]);
});
