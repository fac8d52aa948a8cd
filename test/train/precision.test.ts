import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { Linear } from '../../src/nn/linear.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { Masters, type Precision } from '../../src/train/precision.ts';
import { type Recipe, selectStages, startFrom } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { type TrainOptions, train } from '../../src/train/trainer.ts';
import '../matchers.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  recipe = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

const inSteps = (steps: number, precision: Precision): Recipe => ({
  ...recipe,
  precision,
  stages: recipe.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps })),
});
const run = (given: Recipe, options: TrainOptions = {}) => train(given, { root, workers: 0, ...options });
const losses = async (precision: Precision, options: TrainOptions = {}): Promise<number[]> =>
  (await run(inSteps(50, precision), options)).stages.flatMap(({ steps }) => steps.map(({ loss }) => loss));

/** The mean distance of two curves, as a share of where the first one began. */
const apart = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, loss, i) => sum + Math.abs(loss - (b[i] ?? Number.NaN)), 0) / a.length / (a[0] ?? Number.NaN);

test('a hundred steps learn in every precision as in float32', async () => {
  const float32 = await losses('float32');
  for (const precision of ['bfloat16', 'bfloat16-pure', 'float16'] as const) {
    const curve = await losses(precision);
    expect(apart(float32, curve), precision).toBeLessThan(0.04);
    expect(curve, precision).not.toEqual(float32);
    expect(await losses(precision), `${precision} again`).toEqual(curve);
  }
});

test('checkpoints keep float32 for what learned and bfloat16 for what did not, and open as float32', async () => {
  const out = join(root, 'mixed');
  const { model } = await run(inSteps(2, 'bfloat16'), { out });
  expect(new Set(Array.from(model.parameters(), ({ dtype }) => dtype))).toEqual(new Set(['bfloat16']));
  const [align, instruct] = ['align', 'instruct'].map((name) => openSafetensors(join(out, name, 'model.safetensors')));
  const dtypes = (part: string, source = instruct) =>
    new Set(source?.names.filter((name) => name.startsWith(part)).map((name) => source.dtype(name)));
  expect(dtypes('model.')).toEqual(new Set(['bfloat16', 'float32']));
  expect(dtypes('model.vision_tower')).toEqual(new Set(['bfloat16']));
  expect(dtypes('model.vision_tower', align)).toEqual(new Set(['float32']));
  expect(dtypes('model.language_model')).toEqual(new Set(['float32']));
  const opened = await loadCheckpoint(join(out, 'instruct'));
  expect(new Set(Array.from(opened.model.parameters(), ({ dtype }) => dtype))).toEqual(new Set(['float32']));
  // The model in memory is the checkpoint, rounded.
  const inMemory = new Map(model.namedParameters());
  for (const [key, parameter] of opened.model.namedParameters()) {
    expect(inMemory.get(key)?.equal(parameter.cast('bfloat16')), key).toBe(true);
  }
});

test('pure bfloat16 checkpoints are bfloat16 alone', async () => {
  const out = join(root, 'pure');
  await run(inSteps(2, 'bfloat16-pure'), { out });
  const file = openSafetensors(join(out, 'instruct/model.safetensors'));
  expect(new Set(file.names.map((name) => file.dtype(name)))).toEqual(new Set(['bfloat16']));
});

test.each(['bfloat16', 'bfloat16-pure'] as const)(
  'a stage alone from the %s checkpoint before it gives the same bits as the chain',
  async (precision) => {
    const out = join(root, `chain-${precision}`);
    const short = inSteps(3, precision);
    const chain = await run(short, { out });
    const alone = await run(startFrom(selectStages(short, ['instruct']), `chain-${precision}/align`));
    const bits = new Map(chain.model.namedParameters());
    for (const [key, parameter] of alone.model.namedParameters()) expect(bits.get(key)?.equal(parameter), key).toBe(true);
  },
);

test('masters go back into their model, and steps leave no tensors behind', async () => {
  const layer = new Linear(4, 3).initialize(new Generator(0)).trainable();
  layer.bias?.requiresGrad_(false);
  const weight = layer.weight.clone();
  const before = liveTensors();
  const masters = new Masters(layer, 'bfloat16');
  expect([...masters.beside.keys()]).toEqual(['weight']);
  expect([layer.weight.dtype, layer.bias?.dtype, layer.weight.requiresGrad]).toEqual(['bfloat16', 'bfloat16', true]);
  masters.restore();
  expect(layer.weight.equal(weight)).toBe(true);
  expect(liveTensors()).toBe(before);
  const live: number[] = [];
  await run(
    { ...inSteps(3, 'bfloat16'), stages: inSteps(3, 'bfloat16').stages.slice(0, 1) },
    {
      microBatch: 3,
      onStep: () => void live.push(liveTensors()),
    },
  );
  expect(new Set(live).size).toBe(1);
});
