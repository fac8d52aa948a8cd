import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { supervisedTokens } from '../../src/data/batch.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { indices } from '../../src/tensor/create.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { parseRecipe, type RecipeInput, type Stage } from '../../src/train/recipe.ts';
import { learningRateFactor } from '../../src/train/schedule.ts';
import { scheduleOf } from '../../src/train/stage.ts';
import { type StepInput, trainStep } from '../../src/train/step.ts';
import { optimizerOf, parameterGroups, tune } from '../../src/train/tune.ts';

const folder = join(import.meta.dirname, '../reference');
const expected = openSafetensors(join(folder, 'train-llava/trainer.safetensors'));
const numbers = (name: string): number[] => Array.from(expected.tensor(name).toArray() as Float32Array);
const [steps, batchSize] = [50, 4];

// Tensors this small gain nothing from a second thread, and lose much on a busy machine.
const usual = threads();
beforeAll(() => setThreads(1));
afterAll(() => setThreads(usual));

/** Where each of so long things begins, one behind the other, and where the last one ends. */
function starts(sizes: readonly number[]): number[] {
  let end = 0;
  return [
    0,
    ...sizes.map((size) => {
      end += size;
      return end;
    }),
  ];
}
const [lengths, images, order] = [numbers('lengths'), numbers('images'), numbers('order')];
const [tokens, pictures] = [starts(lengths), starts(images)];
const [ids, labels] = ['ids', 'labels'].map((name) => expected.tensor(name).toArray() as Int32Array) as [Int32Array, Int32Array];
const pixels = expected.tensor('pixels');

/** The rows of a step in micro-batches of so many. */
function stepInput(step: number, size: number): StepInput {
  const rows = order.slice(step * batchSize, (step + 1) * batchSize);
  const cut = (values: Int32Array, row: number): number[] => Array.from(values.slice(tokens[row], tokens[row + 1]));
  const batches = Array.from({ length: batchSize / size }, (_, i) => {
    const taken = rows.slice(i * size, (i + 1) * size);
    const shown = taken.flatMap((row) => Array.from({ length: images[row] ?? 0 }, (_, j) => (pictures[row] ?? 0) + j));
    return {
      ids: Int32Array.from(taken.flatMap((row) => cut(ids, row))),
      labels: Int32Array.from(taken.flatMap((row) => cut(labels, row))),
      lengths: taken.map((row) => lengths[row] ?? 0),
      rows: taken.map((row) => `made#${row}`),
      ...(shown.length > 0 && { pixels: pixels.indexSelect(0, indices(shown)) }),
    };
  });
  return {
    supervisedTokens: rows.reduce((sum, row) => sum + supervisedTokens(Int32Array.from(cut(labels, row))), 0),
    batches: () => batches,
  };
}

/** A stage of the recipe that says what the reference's script says to Trainer. */
function stageOf(learns: RecipeInput['stages'][number]['learns'], optimizer: { type?: 'adafactor' }): Stage {
  const recipe = parseRecipe({
    model: { from: 'llava-clip' },
    stages: [
      {
        name: 'reference',
        learns: { vision: 'full', connector: 'full', language: 'full', ...learns },
        data: { conversations: 'rows.json' },
        optimizer: { ...optimizer, learningRate: 5e-3, betas: [0.9, 0.95], weightDecay: 0.1, maxGradNorm: 0.7, warmupRatio: 0.05 },
        batchSize,
        steps,
      },
    ],
  });
  return recipe.stages[0] as Stage;
}

/** The largest distance of two curves, as a share of the second one's values. */
const distance = (ours: readonly number[], theirs: readonly number[]): number =>
  Math.max(...theirs.map((value, i) => Math.abs((ours[i] ?? Number.NaN) - value) / Math.max(1e-12, Math.abs(value))));

test.each([
  { run: 'trainer', learns: {} },
  { run: 'parts', learns: { connector: { tune: 'full', learningRate: 2e-2 } } },
  { run: 'layers', learns: { vision: { tune: 'full', layerDecay: 0.6 } } },
  { run: 'adafactor', learns: {}, type: 'adafactor' },
] as const)(
  "fifty steps have the losses, norms and learning rates of Hugging Face's Trainer ($run)",
  async ({ run, learns, ...settings }) => {
    for (const size of [2, 4]) {
      const { model } = await loadCheckpoint(join(folder, 'llava-clip'));
      const stage = stageOf(learns, settings);
      tune(model, stage);
      const optimizer = optimizerOf(stage.optimizer, parameterGroups(model, stage));
      const schedule = scheduleOf(stage.optimizer, steps);
      const ours: Record<'loss' | 'norm' | 'learning_rate', number[]> = { loss: [], norm: [], learning_rate: [] };
      for (let step = 0; step < steps; step++) {
        const factor = learningRateFactor(step, schedule);
        const facts = trainStep(model, optimizer, stepInput(step, size), { factor, maxGradNorm: stage.optimizer.maxGradNorm });
        ours.loss.push(facts.loss);
        ours.norm.push(facts.gradNorm);
        ours.learning_rate.push(factor * stage.optimizer.learningRate);
      }
      const reference = (what: keyof typeof ours): number[] => numbers(`${run}.${what}`);
      expect(distance(ours.loss, reference('loss')), 'loss').toBeLessThan(1e-5);
      expect(distance(ours.norm, reference('norm')), 'norm').toBeLessThan(1e-3);
      if (run === 'trainer') expect(distance(ours.learning_rate, reference('learning_rate')), 'learning rate').toBeLessThan(1e-12);
    }
  },
);
