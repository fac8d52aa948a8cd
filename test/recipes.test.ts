import { readFileSync } from 'node:fs';
import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConfigError } from '../src/errors.ts';
import { languageModels } from '../src/model/language/index.ts';
import { visionTowers } from '../src/model/vision/index.ts';
import { ImageConfig, writeImageConfig } from '../src/processor/image-config.ts';
import { type TemplateName, templates } from '../src/processor/templates.ts';
import { Tokenizer } from '../src/processor/tokenizer.ts';
import { setThreads, threads } from '../src/tensor/device.ts';
import { Generator } from '../src/tensor/random.ts';
import { writeSafetensors } from '../src/tensor/safetensors.ts';
import { dryRun } from '../src/train/dry-run.ts';
import { partNames, type Recipe, type Tuning } from '../src/train/recipe.ts';
import { parseOverride, readOverrides, readRecipe, readRecipeText, writeRecipe } from '../src/train/recipe-file.ts';
import { train } from '../src/train/trainer.ts';
import { writeLanguageModel } from './cli/demo/tiny-sources.ts';
import { tinyTowers } from './model/tiny-parts.ts';
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
  const special = Object.values(templates).flatMap(({ tokens }): readonly string[] => tokens);
  await special.reduce((tokenizer, token) => tokenizer.withSpecialToken(token), await Tokenizer.open(whole)).save(whole);
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
    for (const type of ['clip', 'dinov2'] as const) if (type in part) await writeTower(join(root, (part as never)[type]['from']), type);
  }
  for (const { conversations, images } of recipe.stages.flatMap(({ data }) => data)) {
    if (extname(conversations) === '') {
      await cp(
        join(import.meta.dirname, 'reference/data/cauldron.parquet'),
        join(root, conversations, 'ai2d/train-00000-of-00001.parquet'),
      );
      continue;
    }
    const [file, pictures] = [join(root, conversations), join(root, images ?? dirname(conversations))];
    await mkdir(dirname(file), { recursive: true });
    await cp(join(drawn, 'tiny'), pictures, { recursive: true, force: false });
    await cp(join(drawn, 'tiny/captions.json'), file, { force: false });
  }
}

/** A tower of random weights in a folder of its own. */
async function writeTower(folder: string, type: 'clip' | 'dinov2'): Promise<void> {
  const kind = visionTowers[type];
  const config = kind.parse(tinyTowers[type], type);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify(kind.toJson(config)));
  const tower = kind.create(config, undefined).initialize(new Generator(0));
  writeSafetensors(join(folder, 'model.safetensors'), tower.namedParameters());
  await writeImageConfig(folder, ImageConfig.parse({ size: { height: 16, width: 16 } }));
}

test('recipes are shipped, and the guide names those that were published', () => {
  const guide = readFileSync(join(folder, '../docs/training.md'), 'utf8');
  const made = ['tiny.cpu.yaml', 'easy-vqa.quickstart.yaml', 'stamps.demo.yaml'];
  expect(files).toEqual(expect.arrayContaining(made));
  expect(files.filter((file) => !made.includes(file) && !guide.includes(`\`${file}\``))).toEqual([]);
});

/** A dry run, and two steps of every stage. The stand-in has few layers, so learning begins at an early one. */
async function twoSteps(recipe: Recipe, root: string): Promise<void> {
  await standIn(recipe, root);
  const early = (tuning: Tuning): Tuning => (tuning.tune === 'from-layer' ? { ...tuning, layer: 1 } : tuning);
  const stages = recipe.stages.map(({ epochs: _, learns, ...stage }) => ({
    ...stage,
    learns: { vision: early(learns.vision), connector: learns.connector, language: learns.language },
    batchSize: 2,
    steps: 2,
  }));
  const dry = await dryRun({ ...recipe, stages }, { root });
  for (const [i, { name, trainable }] of dry.stages.entries()) {
    const learns = stages[i]?.learns;
    for (const part of partNames) expect(trainable[part] > 0, `${name}: ${part}`).toBe(learns?.[part].tune !== 'frozen');
  }
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

/** Every overlay of a language model: its family, and the template that it names. */
const languages: Readonly<Record<string, readonly [family: keyof typeof languageModels, template: TemplateName]>> = {
  'gemma-2-2b': ['gemma2', 'gemma'],
  'gemma-2b': ['gemma', 'gemma'],
  'gemma-3-1b': ['gemma3_text', 'gemma'],
  'llama-3.2-1b': ['llama', 'llama3'],
  'openelm-450m': ['openelm', 'llama'],
  'phi-2': ['phi', 'phi'],
  'phi-3.5-mini': ['phi3', 'phi3'],
  'qwen1.5-1.8b': ['qwen2', 'phi'],
  'qwen2-0.5b': ['qwen2', 'qwen2_base'],
  'qwen2-0.5b-instruct': ['qwen2', 'qwen2_instruct'],
  'qwen2.5-0.5b': ['qwen2', 'qwen2_base'],
  'qwen2.5-3b': ['qwen2', 'qwen2_base'],
  'qwen3-1.7b': ['qwen3', 'chatml'],
  'smollm2-135m': ['llama', 'chatml'],
  'smollm2-360m': ['llama', 'chatml'],
  'smollm3-3b': ['smollm3', 'chatml'],
  'stablelm-2-1.6b': ['stablelm', 'phi'],
  'tinyllama-1.1b': ['llama', 'llama'],
  'vicuna-7b': ['llama', 'llama'],
};

test('there is an overlay for every language model of the zoo', () => {
  const shipped = overlays.filter((name) => name.startsWith('language/'));
  expect(new Set(shipped)).toEqual(new Set(Object.keys(languages).map((name) => `language/${name}.yaml`)));
  expect([...new Set(Object.values(languages).map(([family]) => family))].sort()).toEqual(Object.keys(languageModels).sort());
});

test.each(Object.entries(languages))(
  '%s comes with its template into every recipe with a language model of its own',
  async (name, [, template]) => {
    const overlay = await readOverrides(join(folder, `language/${name}.yaml`));
    for (const file of files.filter((one) => one.startsWith('phi2-'))) {
      const { model, stages } = await readRecipe(join(folder, file), overlay);
      const plain = await readRecipe(join(folder, file));
      expect(model).toEqual({ ...plain.model, language: overlay.find(({ path }) => path.join('.') === 'model.language')?.value });
      expect(stages).toEqual(plain.stages.map((stage) => (stage.name === 'instruct' ? { ...stage, template } : stage)));
    }
  },
);

test('an overlay of a language model says where it does not fit', async () => {
  const [custom, gemma] = ['custom.lora.yaml', 'language/gemma-2b.yaml'].map((name) => join(folder, name)) as [string, string];
  const error = await readRecipe(custom, await readOverrides(gemma)).catch((reason: ConfigError) => reason);
  expect(error).toMatchObject({
    message: `--with ${gemma}: stages.instruct.template: there is no such place in ${custom}`,
    hint: 'there are lora; items of a list go by their name, or by their number, from 0',
  });
});

/** What is published of a stage. */
function published({ name, learns, template, sampling, batchSize, epochs, maxLength, optimizer }: Recipe['stages'][number]) {
  const parts = Object.entries(learns).filter(([, { tune }]) => tune !== 'frozen');
  const { type, betas, eps, schedule, ...numbers } = optimizer;
  expect({ type, betas, eps, schedule }).toEqual({ type: 'adamw', betas: [0.9, 0.999], eps: 1e-8, schedule: 'cosine' });
  return { name, learns: Object.fromEntries(parts), template, ...sampling, batchSize, epochs, maxLength, ...numbers };
}
const full = { tune: 'full' } as const;
const both = { connector: full, language: full };
const numbers = {
  order: 'shuffle',
  modalities: 'mixed',
  epochs: 1,
  maxLength: 2048,
  weightDecay: 0,
  maxGradNorm: 1,
  warmupRatio: 0.03,
  finalRatio: 0,
};
const align = { ...numbers, name: 'align', learns: { connector: full }, template: 'plain', batchSize: 256, learningRate: 1e-3 };
const mixed = { ...numbers, name: 'instruct', learns: both, template: 'phi', batchSize: 128, learningRate: 2e-5 };
const instruct = { ...mixed, modalities: 'apart' };
const long = { maxLength: 3072 };
const captions = { ...mixed, ...long, name: 'captions', template: 'plain', batchSize: 256 };
const lora = { tune: 'lora', rank: 128, alpha: 256, dropout: 0.05, targets: 'all', rankStabilized: false };
const adapted = { ...mixed, ...long, learns: { connector: full, language: lora }, learningRate: 2e-4 };
const nanovlm = (vision: number, connector: number, rest: object) => ({
  ...mixed,
  learns: {
    vision: { ...full, learningRate: vision },
    connector: { ...full, learningRate: connector },
    language: { ...full, learningRate: vision },
  },
  template: 'nanovlm',
  learningRate: vision,
  epochs: 5,
  weightDecay: 0.01,
  finalRatio: 0.1,
  ...rest,
});
const { warmupRatio: _, ...prismatic } = {
  ...instruct,
  template: 'prismatic',
  weightDecay: 0.1,
  warmupSteps: Math.floor(0.03 * Math.floor(665_298 / 128)),
};
const pad = { aspect: 'pad' };

test.each<[file: string, stages: readonly object[], image: object]>([
  ['phi2-siglip.base.yaml', [align, instruct], {}],
  ['phi2-siglip.share-factory.yaml', [{ ...align, ...long }, captions, { ...instruct, ...long }], {}],
  [
    'phi2-siglip.share-paper.yaml',
    [
      { ...align, ...long },
      { ...captions, learns: { ...both, vision: { tune: 'from-layer', layer: 12 } } },
      { ...instruct, ...long },
    ],
    pad,
  ],
  ['phi2-siglip.lora.yaml', [{ ...align, ...long }, adapted], {}],
  [
    'phi2-siglip.qlora.yaml',
    [
      { ...align, ...long },
      { ...adapted, learns: { connector: full, language: { ...lora, tune: 'qlora', bits: 8 } } },
    ],
    {},
  ],
  ['custom.lora.yaml', [{ ...adapted, name: 'lora', template: undefined, learningRate: 1e-4 }], {}],
  ['vicuna-clip.llava-1.5.yaml', [align, { ...instruct, template: 'llama' }], pad],
  [
    'vicuna-clip.llava-1.5-lora.yaml',
    [align, { ...instruct, template: 'llama', learns: { connector: { ...full, learningRate: 2e-5 }, language: lora }, learningRate: 2e-4 }],
    pad,
  ],
  ['vicuna-siglip.prismatic.yaml', [prismatic], {}],
  [
    'smollm2-siglip.nanovlm-0.1.yaml',
    [nanovlm(1e-4, 2e-3, { batchSize: 256, maxLength: 128, maxGradNorm: 0 })],
    { resample: 'bilinear', mean: [0, 0, 0], std: [1, 1, 1] },
  ],
  [
    'smollm2-siglip2.nanovlm-0.2.yaml',
    [nanovlm(5e-5, 3e-3, { batchSize: 128, maxLength: 512 })],
    { resample: 'bilinear', mean: [0, 0, 0], std: [1, 1, 1] },
  ],
])('%s has the published numbers', async (file, stages, image) => {
  const recipe = await readRecipe(join(folder, file));
  expect(recipe.stages.map(published)).toEqual(stages);
  expect(recipe.processor.image).toEqual(image);
  expect(recipe.precision).toBe('bfloat16');
});

test('the tower mof with TinyLlama is the mixture of features that was published', async () => {
  const overrides = await Promise.all(['vision/mof.yaml', 'language/tinyllama-1.1b.yaml'].map((name) => readOverrides(join(folder, name))));
  const { model, stages } = await readRecipe(join(folder, 'phi2-siglip.base.yaml'), overrides.flat());
  expect(model).toMatchObject({
    vision: {
      type: 'mof',
      clip: { from: 'checkpoints/clip-vit-large-patch14' },
      dinov2: { from: 'checkpoints/dinov2-large' },
      featureLayer: -2,
    },
    connector: { type: 'mof-mlp' },
    language: { from: 'checkpoints/TinyLlama-1.1B-Chat-v1.0' },
  });
  expect(stages.map(published)).toEqual([align, { ...instruct, template: 'llama' }]);
});
