import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Tokenizer } from '../src/processor/tokenizer.ts';
import { setThreads, threads } from '../src/tensor/device.ts';
import type { Recipe, Tuning } from '../src/train/recipe.ts';
import { parseOverride, readOverrides, readRecipe, readRecipeText, writeRecipe } from '../src/train/recipe-file.ts';
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
  const siglip =
    '{ type: siglip, hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 3, numAttentionHeads: 2, imageSize: 16, patchSize: 4 }';
  const overrides = [
    `model.vision=${siglip}`,
    'model.connector={ type: mlp }',
    'model.language.maxPositionEmbeddings=256',
    'model.language.vocabSize=64',
  ].map(parseOverride);
  const { stages, ...recipe } = await readRecipe(join(folder, 'tiny.cpu.yaml'), overrides);
  const { epochs: _, ...stage } = stages[0] as Recipe['stages'][number];
  await train({ ...recipe, stages: [{ ...stage, steps: 1 }] }, { root: drawn, out: join(drawn, 'made'), workers: 0 });
  whole = join(drawn, 'made', stage.name);
  // What the templates end answers with.
  const ends = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<eos>'];
  await ends.reduce((tokenizer, end) => tokenizer.withSpecialToken(end), await Tokenizer.open(whole)).save(whole);
});
afterAll(async () => {
  setThreads(usual);
  await rm(drawn, { recursive: true });
});

/** Puts drawn squares with their captions wherever the recipe looks for its data, and a tiny model wherever it looks for one. */
async function standIn(recipe: Recipe, root: string): Promise<void> {
  const { model } = recipe;
  const { tokenizer = {} } = recipe.processor;
  // a whole model that is told to chat has a tokenizer with the tokens for it
  if ('from' in model) await writeLanguageModel(join(root, model.from));
  for (const part of 'from' in model ? [] : [model.vision, model.language, tokenizer]) {
    if ('from' in part && typeof part.from === 'string') await cp(whole, join(root, part.from), { recursive: true });
  }
  for (const { conversations, images } of recipe.stages.flatMap(({ data }) => data)) {
    const [file, pictures] = [join(root, conversations), join(root, images ?? dirname(conversations))];
    await mkdir(dirname(file), { recursive: true });
    await cp(join(drawn, 'tiny'), pictures, { recursive: true, force: false });
    await cp(join(drawn, 'tiny/captions.json'), file, { force: false });
  }
}

test('recipes are shipped', () => expect(files).toContain('tiny.cpu.yaml'));

/** Two steps of every stage. The stand-in has few layers, so learning begins at an early one. */
async function twoSteps(recipe: Recipe, root: string): Promise<void> {
  await standIn(recipe, root);
  const early = (tuning: Tuning): Tuning => (tuning.tune === 'from-layer' ? { ...tuning, layer: 1 } : tuning);
  const stages = recipe.stages.map(({ epochs: _, learns, ...stage }) => ({
    ...stage,
    learns: { vision: early(learns.vision), connector: learns.connector, language: learns.language },
    batchSize: 2,
    steps: 2,
  }));
  const run = await train({ ...recipe, stages }, { root, workers: 0 });
  expect(run.stages.map(({ name, steps }) => [name, steps.length])).toEqual(stages.map(({ name }) => [name, 2]));
  for (const { loss } of run.stages.flatMap(({ steps }) => steps)) expect(loss).toBeGreaterThan(0);
}

test.each(files)('%s says all it needs, and every stage runs two steps', async (file) => {
  const recipe = await readRecipe(join(folder, file));
  expect(readRecipeText(writeRecipe(recipe), 'written.yaml')).toEqual(recipe);
  await twoSteps(recipe, join(drawn, file));
});

const overlays = (
  await Promise.all(['language', 'vision'].map(async (part) => (await readdir(join(folder, part))).map((name) => `${part}/${name}`)))
).flat();

test.each(overlays)('%s puts another part into the base recipe, which runs', async (overlay) => {
  const recipe = await readRecipe(join(folder, 'phi2-siglip.base.yaml'), await readOverrides(join(folder, overlay)));
  const plain = await readRecipe(join(folder, 'phi2-siglip.base.yaml'));
  // The stand-in takes one size of images.
  if ('vision' in recipe.model) delete (recipe.model.vision as { inputSize?: unknown }).inputSize;
  expect(recipe.stages.map(({ optimizer }) => optimizer)).toEqual(plain.stages.map(({ optimizer }) => optimizer));
  await twoSteps(recipe, join(drawn, overlay));
});

test('the named recipes have the published numbers', async () => {
  const numbers = async (file: string) =>
    (await readRecipe(join(folder, file))).stages.map(({ name, batchSize, maxLength, optimizer, learns }) => [
      name,
      optimizer.learningRate,
      batchSize,
      maxLength,
      Object.entries(learns)
        .flatMap(([part, { tune }]) => (tune === 'frozen' ? [] : [`${part} ${tune}`]))
        .join(', '),
    ]);
  const align = ['align', 1e-3, 256, 2048, 'connector full'];
  const instruct = (maxLength: number) => ['instruct', 2e-5, 128, maxLength, 'connector full, language full'];
  expect(await numbers('phi2-siglip.base.yaml')).toEqual([align, instruct(2048)]);
  expect(await numbers('vicuna-clip.llava-1.5.yaml')).toEqual([align, instruct(2048)]);
  expect(await numbers('phi2-siglip.share-factory.yaml')).toEqual([
    align,
    ['captions', 2e-5, 256, 3072, 'connector full, language full'],
    instruct(3072),
  ]);
  expect((await numbers('phi2-siglip.share-paper.yaml'))[1]?.at(-1)).toBe('vision from-layer, connector full, language full');
  expect(await numbers('vicuna-siglip.prismatic.yaml')).toEqual([instruct(2048)]);
  const rates = async (file: string) => {
    const [stage] = (await readRecipe(join(folder, file))).stages;
    return Object.values(stage?.learns ?? {}).map((tuning) => ('learningRate' in tuning ? tuning.learningRate : undefined));
  };
  expect(await rates('smollm2-siglip.nanovlm-0.1.yaml')).toEqual([1e-4, 2e-3, 1e-4]);
  expect(await rates('smollm2-siglip2.nanovlm-0.2.yaml')).toEqual([5e-5, 3e-3, 5e-5]);
});
