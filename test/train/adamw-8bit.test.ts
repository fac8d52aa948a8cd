import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { full, randn, tensor, zeros } from '../../src/tensor/create.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import type { DType } from '../../src/tensor/dtype.ts';
import { type AdamW8bitState, adamW8bit_ } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { AdamW8bit } from '../../src/train/adamw-8bit.ts';
import type { OptimizerOptions } from '../../src/train/optimizer.ts';
import { wholeWeight } from '../../src/train/precision.ts';
import type { AssembledModel, Recipe } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import '../matchers.ts';
import { tinyData } from './tiny-data.ts';

const usual = threads();
let root: string;
beforeAll(async () => {
  root = await tinyData();
});
afterAll(() => rm(root, { recursive: true }));

const [betas, eps, learningRate] = [[0.9, 0.99] as const, 1e-8, 1e-3];
const options = { learningRate, betas, weightDecay: 0.1, eps, scale: 1, noise: 7 };
const numbers = (x: Tensor): number[] => Array.from(x.detach().toArray() as ArrayLike<number>);

/** The share of elements whose codes differ, by 1: the one thing that the last bit of a float32 may change. */
function apart(a: Tensor, b: Tensor): number {
  const [left, right] = [numbers(a), numbers(b)];
  const differing = left.flatMap((code, i) => (code === right[i] ? [] : [Math.abs(code - (right[i] ?? Number.NaN))]));
  expect(new Set([1, ...differing])).toEqual(new Set([1]));
  return differing.length / left.length;
}

/** Empty moments of a parameter, in another layout when `strided`. */
function moments(shape: readonly [number, number], { strided = false } = {}): Omit<AdamW8bitState, 'parameter' | 'gradient' | 'master'> {
  const codes = () => (strided ? zeros([shape[1], shape[0]], { dtype: 'uint8' }).t() : zeros(shape, { dtype: 'uint8' }));
  const scale = () => zeros([Math.ceil((shape[0] * shape[1]) / 256)]);
  return { mean: codes(), meanScale: scale(), square: codes(), squareScale: scale() };
}

/** Gradient of a step, made as in scripts/make-optimizer-references.py. */
function madeGradient(count: number, step: number): Tensor {
  const values = Float32Array.from({ length: count }, (_, place) => {
    if (Math.floor(place / 256) === 3) return 0;
    let word = (Math.imul(place + 1, 2654435761) ^ Math.imul(step + 1, 2246822519)) >>> 0;
    word ^= word >>> 15;
    word = Math.imul(word, 2246822519) >>> 0;
    word ^= word >>> 13;
    return ((word & 0xffff) - 32768) / 32768 / 2 ** ((place * 11) % 13);
  });
  return tensor(values);
}

test('twelve steps are those of the paper, written out in Python', () => {
  using _scope = new Scope();
  const expected = openSafetensors(join(import.meta.dirname, '../reference/adamw-8bit.safetensors'));
  const { numel } = expected.tensor('weight');
  const parameter = tensor(Float32Array.from({ length: numel }, (_, i) => (((i * 37) % 101) - 50) / 64)).requiresGrad_();
  const optimizer = new AdamW8bit([{ parameters: new Map([['a', parameter]]), learningRate, weightDecay: 0.1 }], { betas, eps });
  for (let step = 0; step < 12; step++) {
    parameter.grad = madeGradient(numel, step);
    optimizer.step(1);
  }
  expect(parameter.detach()).toMatchTensor(expected.tensor('weight'), { atol: 2e-5 });
  const state = new Map(optimizer.snapshot());
  for (const name of ['mean', 'square']) {
    const scale = state.get(`optimizer.a.${name}Scale`) as Tensor;
    expect(scale, name).toMatchTensor(expected.tensor(`${name}Scale`), { atol: 1e-6 });
    expect(apart(state.get(`optimizer.a.${name}`) as Tensor, expected.tensor(name)), name).toBeLessThan(0.002);
  }
});

test.each([
  { kind: 'float32', dtype: 'float32' },
  { kind: 'bfloat16 with lower halves', dtype: 'bfloat16', split: true },
  { kind: 'bfloat16 rounded stochastically', dtype: 'bfloat16' },
  { kind: 'bfloat16 with compensation', dtype: 'bfloat16', compensated: true },
] as const)('other layouts and threads take the same steps in $kind', ({ dtype, ...given }) => {
  using _scope = new Scope();
  const shape = [91, 77] as const;
  const { split, compensated } = { split: false, compensated: false, ...given };
  const run = (strided: boolean) => {
    const made = (value: number, of: DType): Tensor =>
      strided ? full([shape[1], shape[0]], value, { dtype: of }).t() : full(shape, value, { dtype: of });
    const state = {
      parameter: made(0.75, dtype),
      ...(split && { master: made(0, 'int16') }),
      ...(compensated && { compensation: made(0, 'bfloat16') }),
      ...moments(shape, { strided }),
    };
    const generator = new Generator(2);
    for (let step = 1; step <= 4; step++) {
      adamW8bit_({ ...state, gradient: randn(shape, { generator }).cast(dtype) }, { ...options, step });
    }
    return state;
  };
  try {
    setThreads(2);
    const [two, operators] = [run(false), run(true)];
    setThreads(1);
    const one = run(false);
    const others = new Map(Object.entries(two));
    for (const [name, value] of Object.entries(one)) expect(value?.equal(others.get(name) as Tensor), name).toBe(true);
    for (const name of ['mean', 'square'] as const) expect(apart(one[name], operators[name]), name).toBeLessThan(0.002);
    // A code apart is some percent of a step; and bfloat16 below 0.75 goes by 2^-8.
    const atol = dtype === 'float32' || split ? 1e-4 : 2 ** -8;
    const weight = ({ parameter, master }: typeof one): Tensor => (master ? wholeWeight(parameter, master) : parameter);
    expect(weight(one)).toMatchTensor(weight(operators), { atol });
  } finally {
    setThreads(usual);
  }
});

test('float16 follows its masters', () => {
  using _scope = new Scope();
  const shape = [64, 80] as const;
  const gradient = randn(shape, { generator: new Generator(3) });
  const run = (dtype: DType) => {
    const state = { parameter: full(shape, 1, { dtype }), master: full(shape, 1), ...moments(shape) };
    adamW8bit_({ ...state, gradient: gradient.cast(dtype) }, { ...options, step: 1 });
    return state;
  };
  const [half, whole] = [run('float16'), run('float32')];
  expect(half.master).toMatchTensor(whole.master, { atol: 1e-6 });
  expect(half.parameter.equal(half.master.cast('float16'))).toBe(true);
});

/** A parameter of `count` ones in an optimizer of its own. */
function alone(dtype: 'float32' | 'bfloat16', { count = 5000, ...given }: OptimizerOptions & { count?: number } = {}) {
  const parameter = full([count], 1, { dtype }).requiresGrad_();
  const groups = [{ parameters: new Map([['a', parameter]]), learningRate, weightDecay: 0 }];
  return { parameter, optimizer: new AdamW8bit(groups, { betas, eps, ...given }) };
}

test('halves move as float32, bfloat16 alone on average as them, and with compensation nearly as them', () => {
  using _scope = new Scope();
  const lower = zeros([5000], { dtype: 'int16' });
  const [plain, behind] = [alone('float32'), alone('bfloat16', { masters: new Map([['a', lower]]) })];
  const [chance, kahan] = [alone('bfloat16', { seed: 3 }), alone('bfloat16', { rounding: 'kahan' })];
  const generator = new Generator(5);
  for (let step = 0; step < 10; step++) {
    const gradient = randn([5000], { generator }).add(1).cast('bfloat16');
    for (const { parameter, optimizer } of [plain, behind, chance, kahan]) {
      parameter.grad = gradient.cast(parameter.dtype);
      optimizer.step(0.2);
    }
  }
  expect(wholeWeight(behind.parameter, lower).equal(plain.parameter)).toBe(true);
  const mean = (x: Tensor): number => x.detach().cast('float32').mean().item();
  const moved = 1 - mean(plain.parameter);
  expect(moved).toBeGreaterThan(5e-4);
  expect(Math.abs(1 - mean(chance.parameter) - moved)).toBeLessThan(0.1 * moved);
  const rest = new Map(kahan.optimizer.snapshot()).get('optimizer.a.compensation') as Tensor;
  expect(kahan.parameter.detach().cast('float32').add(rest)).toMatchTensor(plain.parameter.detach(), { atol: 2e-5 });
});

test('a run of elements that begins at a block moves as it does within the whole', () => {
  using _scope = new Scope();
  const [whole, first, last] = [alone('float32', { count: 12_000 }), alone('float32', { count: 5120 }), alone('float32', { count: 6880 })];
  const generator = new Generator(6);
  for (let step = 0; step < 3; step++) {
    const gradient = randn([12_000], { generator });
    whole.parameter.grad = gradient;
    first.parameter.grad = gradient.narrow(0, 0, 5120).contiguous();
    last.parameter.grad = gradient.narrow(0, 5120, 6880).contiguous();
    for (const { optimizer } of [whole, first, last]) optimizer.step(1);
  }
  const moved = whole.parameter.detach();
  expect(moved.narrow(0, 0, 5120).equal(first.parameter.detach())).toBe(true);
  expect(moved.narrow(0, 5120, 6880).equal(last.parameter.detach())).toBe(true);
});

test('small parameters are moved by AdamW, large ones take two bytes and a 128th', () => {
  using _scope = new Scope();
  const weights = () => new Map([['small', full([4095], 1).requiresGrad_()]]);
  const [ours, theirs] = [weights(), weights()];
  const made = [
    new AdamW8bit([{ parameters: ours, learningRate, weightDecay: 0.1 }], { betas, eps }),
    new AdamW([{ parameters: theirs, learningRate, weightDecay: 0.1 }], { betas, eps }),
  ];
  for (const list of [ours, theirs]) for (const parameter of list.values()) parameter.grad = madeGradient(4095, 0);
  for (const optimizer of made) optimizer.step(1);
  expect(ours.get('small')?.equal(theirs.get('small') as Tensor)).toBe(true);
  const large = [...alone('float32', { count: 65_536 }).optimizer.snapshot()].filter(([name]) => /(mean|square)/.test(name));
  expect(large.map(([name, { dtype }]) => [name, dtype])).toEqual([
    ['optimizer.a.mean', 'uint8'],
    ['optimizer.a.meanScale', 'float32'],
    ['optimizer.a.square', 'uint8'],
    ['optimizer.a.squareScale', 'float32'],
  ]);
  const bytes = large.reduce((sum, [, { numel, dtype }]) => sum + numel * (dtype === 'uint8' ? 1 : 4), 0);
  expect(bytes / 65_536).toBe(2 + 2 / 64);
});

test.each([{}, { rounding: 'kahan' }] as const)('a state that was saved and loaded goes on with the same bits: %o', (given) => {
  using _scope = new Scope();
  const [unbroken, broken] = [alone('bfloat16', given), alone('bfloat16', given)];
  const step = ({ parameter, optimizer }: ReturnType<typeof alone>, i: number): void => {
    parameter.grad = madeGradient(5000, i).cast('bfloat16');
    optimizer.step(1);
  };
  for (const i of [0, 1, 2, 3]) step(unbroken, i);
  for (const i of [0, 1]) step(broken, i);
  const file = join(mkdtempSync(join(tmpdir(), 'tinyllava-')), 'optimizer.safetensors');
  writeSafetensors(file, broken.optimizer.snapshot());
  const resumed = alone('bfloat16', given);
  resumed.optimizer.restore(openSafetensors(file));
  for (const i of [2, 3]) step(resumed, i);
  const ends = new Map(resumed.optimizer.snapshot());
  for (const [name, value] of unbroken.optimizer.snapshot()) expect(ends.get(name)?.equal(value), name).toBe(true);
});

test('a hundred steps learn as with AdamW, to a hundredth of the first loss', async () => {
  setThreads(1);
  try {
    const tiny = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
    const wide = { hiddenSize: 64, intermediateSize: 128 }; // so that the weights of linear layers are not small
    const lossesOf = async (type: 'adamw' | 'adamw-8bit', precision: Recipe['precision'] = 'float32') => {
      const stages = tiny.stages.map(({ epochs: _, ...stage }) => ({
        ...stage,
        steps: 50,
        optimizer: { ...stage.optimizer, type, learningRate: 3e-3 },
      }));
      const { vision, connector, language } = tiny.model as AssembledModel;
      const model = { vision: { ...vision, ...wide }, connector, language: { ...language, ...wide } } as AssembledModel;
      const { stages: done } = await train({ ...tiny, precision, stages, model }, { root, workers: 0 });
      return done.flatMap(({ steps }) => steps.map(({ loss }) => loss));
    };
    const adamW = await lossesOf('adamw');
    for (const precision of ['float32', 'bfloat16-pure'] as const) {
      const curve = await lossesOf('adamw-8bit', precision);
      expect(curve, precision).not.toEqual(adamW);
      const distance = curve.reduce((sum, loss, i) => sum + Math.abs(loss - (adamW[i] ?? Number.NaN)), 0) / curve.length;
      // Of the first loss; the rounding of moments and weights is some 0.002.
      expect(distance / (adamW[0] ?? Number.NaN), precision).toBeLessThan(0.01);
    }
  } finally {
    setThreads(usual);
  }
});
