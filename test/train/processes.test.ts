import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Recipe } from '../../src/train/recipe.ts';
import { readRecipe, writeRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { ranks } from './ranks.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
let file: string;
beforeAll(async () => {
  root = await tinyData();
  const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  recipe = { ...whole, stages: whole.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps: 4, batchSize: 6 })) };
  file = join(root, 'recipe.yaml');
  await writeFile(file, writeRecipe(recipe));
});
afterAll(() => rm(root, { recursive: true }));

const losses = (stages: Awaited<ReturnType<typeof train>>['stages'] | undefined) =>
  stages?.flatMap(({ steps }) =>
    steps.map(({ loss, gradNorm, examples, images, tokens }) => ({ loss, gradNorm, examples, images, tokens })),
  );

test.each([
  [2, false],
  [4, false],
  [1, true],
  [2, true],
  [4, true],
])('%i processes learn what one does, each on its share (spread: %s)', async (size, spread) => {
  const alone = losses((await train(recipe, { root, workers: 0, microBatch: 2 })).stages);
  const [first, ...others] = await ranks(size, { recipe: file, options: { root, microBatch: 2, spread } });
  expect(first?.error).toBeUndefined();
  expect(others.every((other) => other?.stages?.length === 2)).toBe(true);
  const together = losses(first?.stages);
  expect(together?.length).toBe(8);
  for (const [i, step] of (alone ?? []).entries()) {
    const { loss, gradNorm, ...counts } = together?.[i] ?? {};
    expect(counts).toEqual({ examples: step.examples, images: step.images, tokens: step.tokens });
    expect(Math.abs((loss ?? 0) / step.loss - 1)).toBeLessThan(1e-5);
    expect(Math.abs((gradNorm ?? 0) / step.gradNorm - 1)).toBeLessThan(1e-4);
  }
});
