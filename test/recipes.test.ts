import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { setThreads, threads } from '../src/tensor/device.ts';
import type { Recipe } from '../src/train/recipe.ts';
import { readRecipe, readRecipeText, writeRecipe } from '../src/train/recipe-file.ts';
import { train } from '../src/train/trainer.ts';
import { tinyData } from './train/tiny-data.ts';

const folder = join(import.meta.dirname, '../recipes');
const files = (await readdir(folder)).filter((file) => file.endsWith('.yaml'));
const usual = threads();
let drawn: string;
beforeAll(async () => {
  setThreads(1);
  drawn = await tinyData();
});
afterAll(async () => {
  setThreads(usual);
  await rm(drawn, { recursive: true });
});

/** Puts drawn squares with their captions wherever the recipe looks for its data. */
async function standIn(recipe: Recipe, root: string): Promise<void> {
  for (const { conversations, images } of recipe.stages.flatMap(({ data }) => data)) {
    const [file, pictures] = [join(root, conversations), join(root, images ?? dirname(conversations))];
    await mkdir(dirname(file), { recursive: true });
    await cp(join(drawn, 'tiny'), pictures, { recursive: true, force: false });
    await cp(join(drawn, 'tiny/captions.json'), file, { force: false });
  }
}

test('recipes are shipped', () => expect(files).toContain('tiny.cpu.yaml'));

test.each(files)('%s says all it needs, and every stage runs two steps', async (file) => {
  const recipe = await readRecipe(join(folder, file));
  expect(readRecipeText(writeRecipe(recipe), 'written.yaml')).toEqual(recipe);
  const root = join(drawn, file);
  await standIn(recipe, root);
  const stages = recipe.stages.map(({ epochs: _, ...stage }) => ({ ...stage, batchSize: 2, steps: 2 }));
  const run = await train({ ...recipe, stages }, { root, workers: 0 });
  expect(run.stages.map(({ name, steps }) => [name, steps.length])).toEqual(stages.map(({ name }) => [name, 2]));
  for (const { loss } of run.stages.flatMap(({ steps }) => steps)) expect(loss).toBeGreaterThan(0);
});
