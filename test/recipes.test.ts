import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Tokenizer } from '../src/processor/tokenizer.ts';
import { setThreads, threads } from '../src/tensor/device.ts';
import type { Recipe } from '../src/train/recipe.ts';
import { parseOverride, readRecipe, readRecipeText, writeRecipe } from '../src/train/recipe-file.ts';
import { train } from '../src/train/trainer.ts';
import { writeLanguageModel } from './cli/demo/tiny-sources.ts';
import { tinyData } from './train/tiny-data.ts';

const folder = join(import.meta.dirname, '../recipes');
const files = (await readdir(folder)).filter((file) => file.endsWith('.yaml'));
const usual = threads();
let drawn: string;
let whole: string;
beforeAll(async () => {
  setThreads(1);
  drawn = await tinyData();
  const clip =
    '{ type: clip, hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 3, numAttentionHeads: 2, imageSize: 16, patchSize: 4 }';
  const overrides = [
    `model.vision=${clip}`,
    'model.connector={ type: mlp }',
    'model.language.maxPositionEmbeddings=256',
    'model.language.vocabSize=64',
  ].map(parseOverride);
  const { stages, ...recipe } = await readRecipe(join(folder, 'tiny.cpu.yaml'), overrides);
  const { epochs: _, ...stage } = stages[0] as Recipe['stages'][number];
  await train({ ...recipe, stages: [{ ...stage, steps: 1 }] }, { root: drawn, out: join(drawn, 'made'), workers: 0 });
  whole = join(drawn, 'made', stage.name);
  // What the templates end answers with.
  await (await Tokenizer.open(whole)).withSpecialToken('<|endoftext|>').save(whole);
});
afterAll(async () => {
  setThreads(usual);
  await rm(drawn, { recursive: true });
});

/** Puts drawn squares with their captions wherever the recipe looks for its data, and a tiny model wherever it looks for one. */
async function standIn(recipe: Recipe, root: string): Promise<void> {
  const { model } = recipe;
  // a whole model that is told to chat has a tokenizer with the tokens for it
  if ('from' in model) await writeLanguageModel(join(root, model.from));
  for (const part of 'from' in model ? [] : [model.vision, model.language]) {
    if (typeof part.from === 'string') await cp(whole, join(root, part.from), { recursive: true });
  }
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
