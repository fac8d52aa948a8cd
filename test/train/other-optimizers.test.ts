import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { full, randn, zeros } from '../../src/tensor/create.ts';
import { joinHalves } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { Adafactor } from '../../src/train/adafactor.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { Muon } from '../../src/train/muon.ts';
import type { Optimizer, OptimizerOptions, ParameterGroup } from '../../src/train/optimizer.ts';
import { parseRecipe, type Stage } from '../../src/train/recipe.ts';
import { optimizerOf, parameterGroups, tune } from '../../src/train/tune.ts';
import '../matchers.ts';

const reference = join(import.meta.dirname, '../reference');
const expected = openSafetensors(join(reference, 'optimizers.safetensors'));
const names = (kind: string): string[] =>
  expected.names.filter((name) => name.startsWith(`${kind}.`)).map((name) => name.slice(kind.length + 1));
const muonOptions = { betas: [0.9, 0.999], eps: 1e-8, momentum: 0.9 } as const;

/** Twelve steps over the parameters of a reference. Gives them as they are then. */
function twelve(
  kind: string,
  make: (groups: readonly ParameterGroup[]) => Optimizer,
  { weightDecay, learningRate, scale = 1 }: { weightDecay: number; learningRate: number; scale?: number },
): Map<string, Tensor> {
  const parameters = new Map(names(kind).map((name) => [name, expected.tensor(`start.${name}`).clone().requiresGrad_()] as const));
  const optimizer = make([{ parameters, learningRate: 2 * learningRate, weightDecay, hidden: true }]);
  for (let step = 0; step < 12; step++) {
    for (const [name, parameter] of parameters)
      parameter.grad = expected.tensor(`gradient.${name}`).select(0, step).div(scale).contiguous();
    optimizer.step(0.5, { scale });
    optimizer.zeroGradients();
  }
  return parameters;
}

test.each([
  { kind: 'adafactor', weightDecay: 0 },
  { kind: 'decayed', weightDecay: 0.1 },
])("twelve steps of Adafactor are PyTorch's, with weight decay $weightDecay", ({ kind, weightDecay }) => {
  using _scope = new Scope();
  const ends = twelve(kind, (groups) => new Adafactor(groups), { weightDecay, learningRate: 0.02 });
  expect(ends.size).toBe(5);
  for (const [name, end] of ends) expect(end.detach(), name).toMatchTensor(expected.tensor(`${kind}.${name}`), { atol: 2e-6 });
});

test("twelve steps of Muon are PyTorch's", () => {
  using _scope = new Scope();
  const ends = twelve('muon', (groups) => new Muon(groups, muonOptions), { weightDecay: 0.1, learningRate: 3e-3, scale: 4 });
  expect(ends.size).toBe(3);
  for (const [name, end] of ends) expect(end.detach(), name).toMatchTensor(expected.tensor(`muon.${name}`), { atol: 2e-6 });
});

test.each([
  ['Adafactor', (groups: readonly ParameterGroup[], options: OptimizerOptions) => new Adafactor(groups, options)],
  ['Muon', (groups: readonly ParameterGroup[], options: OptimizerOptions) => new Muon(groups, { ...muonOptions, ...options })],
] as const)('%s moves halves as float32, and bfloat16 alone on average as them', (_, make) => {
  using _scope = new Scope();
  const [rows, columns] = [64, 48];
  const parameter = (dtype: 'float32' | 'bfloat16') => full([rows, columns], 1, { dtype }).requiresGrad_();
  const [plain, rounded, alone] = [parameter('float32'), parameter('bfloat16'), parameter('bfloat16')];
  const lower = zeros([rows, columns], { dtype: 'int16' });
  const optimizer = (weights: Tensor, options: OptimizerOptions = {}) =>
    make([{ parameters: new Map([['a', weights]]), learningRate: 5e-3, weightDecay: 0, hidden: true }], options);
  const all = [optimizer(plain), optimizer(rounded, { masters: new Map([['a', lower]]) }), optimizer(alone, { seed: 3 })];
  for (let step = 0; step < 6; step++) {
    for (const weights of [plain, rounded, alone]) weights.grad = full([rows, columns], 0.5, { dtype: weights.dtype });
    for (const one of all) one.step(1);
  }
  const weight = joinHalves(rounded, lower);
  expect(weight).toMatchTensor(plain.detach(), { atol: 1e-6 });
  const moved = 1 - weight.mean().item();
  expect(moved).toBeGreaterThan(1e-4);
  expect(Math.abs(1 - alone.detach().cast('float32').mean().item() - moved)).toBeLessThan(0.15 * moved + 1e-4);
});

test.each([
  [
    'AdamW',
    (groups: readonly ParameterGroup[], options: OptimizerOptions) => new AdamW(groups, { betas: [0.9, 0.999], eps: 1e-8, ...options }),
  ],
  ['Adafactor', (groups: readonly ParameterGroup[], options: OptimizerOptions) => new Adafactor(groups, options)],
  ['Muon', (groups: readonly ParameterGroup[], options: OptimizerOptions) => new Muon(groups, { ...muonOptions, ...options })],
] as const)('%s with Kahan summation adds up steps that bfloat16 alone would lose, and resumes to the bit', (name, make) => {
  using _scope = new Scope();
  const shape = [16, 24] as const;
  const groupOf = (parameter: Tensor) => [
    { parameters: new Map([['a', parameter]]), learningRate: name === 'Muon' ? 5e-4 : 1e-4, weightDecay: 0, hidden: true },
  ];
  const setting = (dtype: 'float32' | 'bfloat16', options: OptimizerOptions = {}) => {
    const parameter = full(shape, 1, { dtype }).requiresGrad_();
    return { parameter, optimizer: make(groupOf(parameter), options) };
  };
  const gradient = randn(shape, { generator: new Generator(4) }).cast('bfloat16');
  const step = ({ parameter, optimizer }: ReturnType<typeof setting>): void => {
    parameter.grad = gradient.cast(parameter.dtype);
    optimizer.step(1);
  };
  const [plain, kahan, broken] = [
    setting('float32'),
    setting('bfloat16', { rounding: 'kahan' }),
    setting('bfloat16', { rounding: 'kahan' }),
  ];
  step(plain);
  // One step is too small for bfloat16, in which nothing lies between 1 - 2^-8 and 1 or 1 and 1 + 2^-7.
  expect(
    plain.parameter
      .detach()
      .cast('bfloat16')
      .equal(full(shape, 1, { dtype: 'bfloat16' })),
  ).toBe(true);
  for (let i = 1; i < 60; i++) step(plain);
  for (let i = 0; i < 60; i++) step(kahan);
  for (let i = 0; i < 30; i++) step(broken);
  const rest = (optimizer: Optimizer): Tensor => new Map(optimizer.snapshot()).get('optimizer.a.compensation') as Tensor;
  const moved = plain.parameter.detach().sub(1);
  expect(moved.abs().mean().item()).toBeGreaterThan(2 ** -9);
  // Some hundredths: equal steps are all rounded the same way in the compensation, which has eight bits itself.
  const whole = kahan.parameter.detach().cast('float32').add(rest(kahan.optimizer));
  expect(whole.sub(1)).toMatchTensor(moved, { atol: 5e-4 });
  const file = join(mkdtempSync(join(tmpdir(), 'tinyllava-')), 'optimizer.safetensors');
  writeSafetensors(file, broken.optimizer.snapshot());
  const resumed = setting('bfloat16', { rounding: 'kahan' });
  resumed.optimizer.restore(openSafetensors(file));
  for (let i = 30; i < 60; i++) step(resumed);
  const ends = new Map(resumed.optimizer.snapshot());
  for (const [key, value] of kahan.optimizer.snapshot()) expect(ends.get(key)?.equal(value), key).toBe(true);
});

test('Muon takes the weights of linear layers, AdamW embeddings, norms, biases and the head', async () => {
  const { model } = await loadCheckpoint(join(reference, 'llava-clip'));
  const { stages } = parseRecipe({
    model: { from: 'llava-clip' },
    stages: [
      {
        name: 'whole',
        learns: { vision: 'full', connector: 'full', language: 'full' },
        data: { conversations: 'rows.json' },
        optimizer: { type: 'muon', learningRate: 1e-3 },
        batchSize: 1,
        steps: 1,
      },
    ],
  });
  const stage = stages[0] as Stage;
  tune(model, stage);
  const groups = parameterGroups(model, stage);
  const keys = (hidden: boolean) => groups.filter((group) => group.hidden === hidden).flatMap(({ parameters }) => [...parameters.keys()]);
  expect(keys(true).filter((key) => !/(_proj|fc1|fc2|linear_[12])\.weight$/.test(key))).toEqual([]);
  expect(keys(true)).toContain('model.multi_modal_projector.linear_1.weight');
  expect(keys(false).filter((key) => /layers\.\d.*(_proj|fc\d)\.weight$/.test(key))).toEqual([]);
  expect(keys(false)).toEqual(expect.arrayContaining(['lm_head.weight', 'model.language_model.embed_tokens.weight']));
  const optimizer = optimizerOf(stage.optimizer, groups);
  const remembered = new Map(optimizer.snapshot());
  expect(remembered.has('optimizer.model.multi_modal_projector.linear_1.weight.square')).toBe(false);
  expect(remembered.has('optimizer.lm_head.weight.square')).toBe(true);
  optimizer.free();
});
