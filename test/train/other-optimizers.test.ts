import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { full } from '../../src/tensor/create.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { Adafactor } from '../../src/train/adafactor.ts';
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
] as const)('%s moves masters as float32, and bfloat16 alone on average as them', (_, make) => {
  using _scope = new Scope();
  const [rows, columns] = [64, 48];
  const parameter = (dtype: 'float32' | 'bfloat16') => full([rows, columns], 1, { dtype }).requiresGrad_();
  const [plain, rounded, alone] = [parameter('float32'), parameter('bfloat16'), parameter('bfloat16')];
  const master = full([rows, columns], 1);
  const optimizer = (weights: Tensor, options: OptimizerOptions = {}) =>
    make([{ parameters: new Map([['a', weights]]), learningRate: 5e-3, weightDecay: 0, hidden: true }], options);
  const all = [optimizer(plain), optimizer(rounded, { masters: new Map([['a', master]]) }), optimizer(alone, { seed: 3 })];
  for (let step = 0; step < 6; step++) {
    for (const weights of [plain, rounded, alone]) weights.grad = full([rows, columns], 0.5, { dtype: weights.dtype });
    for (const one of all) one.step(1);
  }
  expect(master).toMatchTensor(plain.detach(), { atol: 1e-6 });
  expect(rounded.detach().equal(master.cast('bfloat16'))).toBe(true);
  const moved = 1 - master.mean().item();
  expect(moved).toBeGreaterThan(1e-4);
  expect(Math.abs(1 - alone.detach().cast('float32').mean().item() - moved)).toBeLessThan(0.15 * moved + 1e-4);
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
