import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { AdamW } from '../../src/train/adamw.ts';
import type { Stage } from '../../src/train/recipe.ts';
import { learningRateFactor } from '../../src/train/schedule.ts';
import { trainStep } from '../../src/train/step.ts';
import { parameterGroups, tune } from '../../src/train/tune.ts';
import '../matchers.ts';
import { microBatches } from './reference-batches.ts';

const folder = join(import.meta.dirname, '../reference');
const expected = openSafetensors(join(folder, 'train-llava/expected.safetensors'));
const values = (name: string): number[] => Array.from(expected.tensor(name).toArray() as Float32Array);
const steps = 12;

const stage: Pick<Stage, 'name' | 'learns' | 'optimizer'> = {
  name: 'reference',
  learns: { vision: { tune: 'full' }, connector: { tune: 'full', learningRate: 2e-2 }, language: { tune: 'full' } },
  optimizer: {
    type: 'adamw',
    learningRate: 5e-3,
    betas: [0.9, 0.95],
    eps: 1e-8,
    weightDecay: 0.1,
    maxGradNorm: 0.7,
    warmupSteps: 3,
    schedule: 'cosine',
    finalRatio: 0,
  },
};

// Tensors this small gain nothing from a second thread, and lose much on a busy machine.
const usual = threads();
beforeAll(() => setThreads(1));
afterAll(() => setThreads(usual));

let model: TinyLlava;
beforeEach(async () => {
  ({ model } = await loadCheckpoint(join(folder, 'llava-clip')));
});

test.each([
  { sizes: [4], recompute: false },
  { sizes: [1, 3], recompute: false },
  { sizes: [1, 1, 1, 1], recompute: true },
])('twelve steps in micro-batches of $sizes (recompute: $recompute) are those of a plain PyTorch loop', ({ sizes, recompute }) => {
  tune(model, stage);
  const optimizer = new AdamW(parameterGroups(model, stage), stage.optimizer);
  const { maxGradNorm } = stage.optimizer;
  const schedule = { shape: 'cosine', warmupSteps: 3, steps, finalRatio: 0 } as const;
  const [losses, norms] = [values('loss'), values('norm')];
  for (let step = 0; step < steps; step++) {
    const factor = learningRateFactor(step, schedule);
    expect(factor * stage.optimizer.learningRate).toBeCloseTo(values('learning_rate')[step] ?? Number.NaN, 9);
    const input = microBatches(step, sizes);
    const before = liveTensors();
    const facts = trainStep(model, optimizer, input, { factor, maxGradNorm, recompute });
    expect(liveTensors()).toBe(before);
    expect(Math.abs(facts.loss - (losses[step] ?? Number.NaN)), `loss of step ${step}`).toBeLessThan(1e-5);
    expect(Math.abs(facts.gradNorm - (norms[step] ?? Number.NaN)), `norm of step ${step}`).toBeLessThan(1e-4);
  }
  const parameters = new Map(model.namedParameters());
  const final = expected.names.filter((name) => name.startsWith('final.'));
  expect(final.length).toBe(3);
  for (const name of final) expect(parameters.get(name.slice(6)), name).toMatchTensor(expected.tensor(name), { atol: 1e-4 });
});

test('a frozen part keeps its bits', () => {
  const learns = { vision: { tune: 'frozen' }, connector: { tune: 'full' }, language: { tune: 'frozen' } } as const;
  tune(model, { name: 'align', learns });
  const before = new Map(Array.from(model.namedParameters(), ([key, parameter]) => [key, parameter.clone()] as const));
  const optimizer = new AdamW(parameterGroups(model, { ...stage, learns }), stage.optimizer);
  trainStep(model, optimizer, microBatches(0, [4]), { factor: 1, maxGradNorm: 0 });
  const moved = [...model.namedParameters()].filter(([key, parameter]) => !before.get(key)?.equal(parameter)).map(([key]) => key);
  const connector = ['linear_1.weight', 'linear_1.bias', 'linear_2.weight', 'linear_2.bias'].map(
    (key) => `model.multi_modal_projector.${key}`,
  );
  expect(moved).toEqual(connector);
});

test('a loss that is not finite stops, names the rows and changes nothing', () => {
  tune(model, stage);
  const [last] = [...model.languageModel.parameters()].slice(-1);
  last?.requiresGrad_(false).fill_(Number.NaN).requiresGrad_();
  const before = new Map(Array.from(model.namedParameters(), ([key, parameter]) => [key, parameter.clone()] as const));
  const optimizer = new AdamW(parameterGroups(model, stage), stage.optimizer);
  const step = () => trainStep(model, optimizer, microBatches(0, [1, 3]), { factor: 1, maxGradNorm: 1 });
  expect(step).toThrowErrorMatchingInlineSnapshot(`[DataError: the loss is NaN on made#0]`);
  for (const [key, parameter] of model.namedParameters()) {
    expect(parameter.grad, key).toBeUndefined();
    expect(parameter === last || before.get(key)?.equal(parameter), key).toBe(true);
  }
});

test('weight decay leaves biases and norms alone, and parts have their own learning rates', () => {
  tune(model, stage);
  const groups = parameterGroups(model, stage).map(({ parameters, ...settings }) => ({ ...settings, keys: [...parameters.keys()] }));
  expect(groups.map(({ learningRate, weightDecay, keys }) => [learningRate, weightDecay, keys.length])).toMatchInlineSnapshot(`
    [
      [
        0.005,
        0.1,
        21,
      ],
      [
        0.005,
        0,
        34,
      ],
      [
        0.02,
        0.1,
        2,
      ],
      [
        0.02,
        0,
        2,
      ],
      [
        0.005,
        0.1,
        16,
      ],
      [
        0.005,
        0,
        5,
      ],
    ]
  `);
  const plain = groups.filter(({ weightDecay }) => weightDecay === 0).flatMap(({ keys }) => keys);
  expect(plain.filter((key) => !/bias|norm|layrnorm/.test(key))).toEqual([]);
  const decayed = groups.filter(({ weightDecay }) => weightDecay > 0).flatMap(({ keys }) => keys);
  expect(decayed.filter((key) => /bias|norm/.test(key))).toEqual([]);
  expect(decayed).toContain('model.vision_tower.vision_model.embeddings.class_embedding');
});

test('a part that the model lacks cannot learn', async () => {
  const { model: llama } = await loadCheckpoint(join(folder, 'llama-mqa'));
  expect(() => tune(llama, stage)).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: stage reference: vision is to learn, but the model has none]`,
  );
});

test.each([false, true])(
  'rows without images teach a frozen language model nothing and a connector as little (recomputing: %s)',
  (recompute) => {
    model.freeze();
    model.connector?.trainable();
    const parameters = new Map([...model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad));
    const optimizer = new AdamW([{ parameters, learningRate: 1, weightDecay: 0 }], { betas: [0.9, 0.999], eps: 1e-8 });
    const before = [...parameters.values()].map((parameter) => parameter.sum().item());
    const batch = { ids: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, 2, 3), lengths: [3], rows: ['text#0'] };
    const facts = trainStep(model, optimizer, { supervisedTokens: 2, batches: () => [batch] }, { factor: 1, maxGradNorm: 1, recompute });
    expect([facts.loss > 0, facts.gradNorm]).toEqual([true, 0]);
    expect([...parameters.values()].map((parameter) => parameter.sum().item())).toEqual(before);
  },
);
