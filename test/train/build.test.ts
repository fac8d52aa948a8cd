import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadLanguageModel, loadVisionTower } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { ImageConfig, writeImageConfig } from '../../src/processor/image-config.ts';
import { cat, indices, randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { build } from '../../src/train/build.ts';
import { parseRecipe, type Recipe, type RecipeInput } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { withVocabulary } from '../../src/train/vocabulary.ts';
import '../matchers.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let tiny: Recipe;
beforeAll(async () => {
  root = await tinyData();
  tiny = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  const [align] = tiny.stages;
  const { epochs: _, ...stage } = align ?? {};
  await train({ ...tiny, stages: [{ ...stage, steps: 2 } as Recipe['stages'][number]] }, { root, out: join(root, 'run'), workers: 0 });
});
afterAll(() => rm(root, { recursive: true }));

const options = (): { root: string; device: 'cpu' } => ({ root, device: 'cpu' });
const assembled = (change: Partial<RecipeInput> & Pick<RecipeInput, 'model'>): Recipe =>
  parseRecipe({ stages: tiny.stages.map(({ template: _, ...stage }) => stage), ...change });

function sameBits(model: TinyLlava, other: TinyLlava, part: RegExp): boolean {
  const parameters = new Map<string, Tensor>(other.namedParameters());
  const pairs = [...model.namedParameters()].filter(([key]) => part.test(key));
  expect(pairs.length).toBeGreaterThan(3);
  return pairs.every(([key, parameter]) => parameters.get(key)?.equal(parameter));
}

test('a tower and a language model come from folders, with tokenizer, image settings and template; the connector is fresh', async () => {
  const whole = await build(assembled({ model: { from: 'run/align' } }), options());
  const from = { from: 'run/align' };
  const parts = await build(
    assembled({ model: { vision: from, connector: { type: 'pixel-shuffle' }, language: from }, seed: 1 }),
    options(),
  );
  expect(sameBits(parts.model, whole.model, /vision_tower/)).toBe(true);
  expect(sameBits(parts.model, whole.model, /language_model/)).toBe(true);
  expect(sameBits(parts.model, whole.model, /multi_modal_projector/)).toBe(false);
  const [stage] = tiny.stages;
  const processors = [whole, parts].map(({ processorFor }) =>
    processorFor({ ...(stage as Recipe['stages'][number]), template: undefined }),
  );
  expect(processors[1]?.tokenizer.files).toEqual(processors[0]?.tokenizer.files);
  expect(processors[1]?.image.config).toEqual(processors[0]?.image.config);
  expect(processors[1]?.template.source).toBe(processors[0]?.template.source);
});

test('CLIP and DINOv2 become one tower, each out of its folder, that takes the images of CLIP', async () => {
  const reference = join(import.meta.dirname, '../reference');
  await cp(join(reference, 'clip'), join(root, 'clip'), { recursive: true });
  await writeImageConfig(join(root, 'clip'), ImageConfig.parse({ size: { height: 12, width: 12 }, mean: [0.4, 0.5, 0.6] }));
  const dinov2 = join(reference, 'vision-dinov2');
  const from = (vision: object): Recipe =>
    assembled({
      model: { vision: vision as never, connector: { type: 'mof-mlp', clipSize: 24 }, language: { from: 'run/align' } },
      stages: [{ ...(tiny.stages[0] as RecipeInput['stages'][number]), learns: { vision: 'full' } }],
    });
  const vision = { type: 'mof', clip: { from: 'clip' }, dinov2: { from: dinov2 }, featureLayer: -1 };
  const { model, processorFor } = await build(from(vision), options());
  expect(model.config.vision).toMatchObject({ type: 'mof', featureLayer: -1, clip: { hiddenSize: 24 }, dinov2: { hiddenSize: 12 } });
  expect(processorFor(tiny.stages[0] as Recipe['stages'][number]).image.config).toMatchObject({ mean: [0.4, 0.5, 0.6] });
  const [one, other] = [
    await loadVisionTower(join(reference, 'clip'), { overrides: { featureLayer: -1 } }),
    await loadVisionTower(dinov2, { overrides: { featureLayer: -1, inputSize: 12 } }),
  ];
  const pixels = randn([2, 3, 12, 12], { generator: new Generator(1) });
  const features = cat([one.tower.forward(pixels), other.tower.forward(pixels)], 2);
  expect(model.visionTower?.forward(pixels)).toMatchTensor(features, { atol: 0 });

  const swapped = { ...vision, clip: { from: dinov2 }, dinov2: { from: 'clip' } };
  await expect(build(from(swapped), options())).rejects.toThrow('mof: its clip is a dinov2');
  expect(() => from({ ...vision, dinov2: {} })).toThrow('model.vision.dinov2.from: missing, expected string');
});

test('settings of a stored tower and its images can be replaced', async () => {
  const model = { vision: { from: 'run/align', hiddenAct: 'relu' }, connector: { type: 'mlp' }, language: { from: 'run/align' } };
  const { model: made, processorFor } = await build(assembled({ model, processor: { image: { mean: [0, 0, 0] } } }), options());
  expect(made.config.vision).toMatchObject({ type: 'conv-vit', hiddenAct: 'relu' });
  expect(processorFor(tiny.stages[0] as Recipe['stages'][number]).image.config).toMatchObject({ mean: [0, 0, 0], std: [0.5, 0.5, 0.5] });
});

test('images of another size than the tower takes are refused', async () => {
  const [from, to] = [join(root, 'run/align'), join(root, 'other')];
  await cp(from, to, { recursive: true });
  const file = join(to, 'preprocessor_config.json');
  await writeFile(file, (await readFile(file, 'utf8')).replaceAll('16', '20'));
  await expect(build(assembled({ model: { from: 'other' } }), options())).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: images become 20 x 20 pixels, but the vision tower takes 16 x 16]`,
  );
});

test('a vocabulary grows by rows that are the mean of the others, and old ids keep their logits', async () => {
  for (const name of ['llama-mqa', 'llama-tied-biases']) {
    const language = await loadLanguageModel(join(import.meta.dirname, '../reference', name));
    const before = language.model.embed(indices([1, 2, 60])).clone();
    const mean = language.model.headWeight.mean(0);
    expect(withVocabulary(language, 61)).toEqual(language);
    const grown = withVocabulary(language, 64);
    expect(grown.config['vocabSize']).toBe(64);
    expect(grown.model.vocabSize).toBe(64);
    expect(grown.model.headWeight.shape).toEqual([64, 24]);
    expect(grown.model.embed(indices([1, 2, 60])).equal(before)).toBe(true);
    expect(grown.model.headWeight.select(0, 63)).toMatchTensor(mean);
  }
});

test('the words of rows that a stage skips are not looked for', async () => {
  const row = (from: string, value: string) => ({
    conversations: [
      { from, value },
      { from: 'gpt', value: 'yes' },
    ],
  });
  await writeFile(join(root, 'holes.json'), JSON.stringify([row('human', 'is it red?'), row('nobody', 'strange')]));
  const given = (unusableRows: 'stop' | 'skip'): Recipe => {
    const data = [{ conversations: 'holes.json', repeat: 1 }];
    return { ...tiny, stages: tiny.stages.slice(0, 1).map((stage) => ({ ...stage, data, unusableRows })) };
  };
  const { processorFor } = await build(given('skip'), options());
  const words = processorFor(given('skip').stages[0] as Recipe['stages'][number]).tokenizer;
  expect(words.decode(words.encode('red strange'))).toBe('red');
  await expect(build(given('stop'), options())).rejects.toThrow(/holes\.json#1: /);
});
