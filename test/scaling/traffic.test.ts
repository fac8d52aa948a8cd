import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { gpus } from '../../scripts/scaling/cluster.ts';
import {
  paddedNumbers,
  replicatedCommunication,
  type Sent,
  shardedCommunication,
  shardedPieces,
} from '../../scripts/scaling/communication.ts';
import { countModel } from '../../scripts/scaling/counts.ts';
import { microBatchRows } from '../../scripts/scaling/step.ts';
import { build } from '../../src/train/build.ts';
import type { Recipe } from '../../src/train/recipe.ts';
import { readRecipe, writeRecipe } from '../../src/train/recipe-file.ts';
import { ranks } from '../train/ranks.ts';
import { tinyData } from '../train/tiny-data.ts';

const [steps, batchSize, microBatch] = [4, 6, 1];
let root: string;
let recipe: Recipe;
beforeAll(async () => {
  root = await tinyData();
  const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  recipe = { ...whole, stages: whole.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps, batchSize })) };
  await writeFile(join(root, 'recipe.yaml'), writeRecipe(recipe));
});
afterAll(() => rm(root, { recursive: true }));

/** What the model on paper says of both stages, the first of which teaches the tower too. */
async function predicted(size: number, sharded: boolean): Promise<Sent> {
  const { model } = await build(recipe, { root, device: 'cpu', initialize: false });
  const cluster = { gpu: gpus.h100, gpusPerNode: 8, cards: 8, cardBits: 400e9 };
  const sum = { allReduce: 0, allGather: 0, reduceScatter: 0 };
  for (const stage of recipe.stages) {
    const counts = countModel(model, stage);
    const microBatches = microBatchRows({ batchSize, ranks: size, microBatch });
    const traffic = { counts, kinds: [], cluster, ranks: size, precision: 'float32', rate: 1, microBatches } as const;
    const { sent } = sharded ? shardedCommunication(traffic) : replicatedCommunication(traffic);
    for (const kind of ['allReduce', 'allGather', 'reduceScatter'] as const) sum[kind] += steps * sent[kind];
    // In the end the model is put together.
    const { tower, blocks, rest } = shardedPieces(counts);
    const tensors = [...tower, ...blocks, ...rest].flatMap((piece) => piece.tensors);
    if (sharded) sum.allGather += (4 * paddedNumbers(tensors, size) * (size - 1)) / size;
  }
  return sum;
}

test.each([
  [2, false],
  [4, false],
  [2, true],
  [4, true],
])('%i processes send what is predicted (sharded: %s), beside what they tell each other', async (size, sharded) => {
  const [first] = await ranks(size, { recipe: join(root, 'recipe.yaml'), options: { root, microBatch, sharded } });
  expect(first?.error).toBeUndefined();
  const wanted = await predicted(size, sharded);
  const { allReduce = 0, allGather = 0, reduceScatter } = first?.traffic ?? {};
  expect(reduceScatter).toBe(wanted.reduceScatter);
  const [found, sent] = sharded ? [allGather, wanted.allGather] : [allReduce, wanted.allReduce];
  expect(found / sent).toBeGreaterThanOrEqual(1);
  expect(found / sent).toBeLessThan(1.02);
});
