import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LogEvent } from '../../src/log.ts';
import { memory } from '../../src/tensor/device.ts';
import { dryRun } from '../../src/train/dry-run.ts';
import { parseRecipe, type Recipe, type RecipeInput } from '../../src/train/recipe.ts';
import { parseOverride, readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { tinyData } from './tiny-data.ts';

const file = join(import.meta.dirname, '../../recipes/tiny.cpu.yaml');
const tower = '{ type: clip, hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 2, numAttentionHeads: 2, imageSize: 16, patchSize: 4 }';
let root: string;
let recipe: Recipe;
beforeAll(async () => {
  root = await tinyData();
  recipe = await readRecipe(file, [parseOverride(`model.vision=${tower}`)]);
});
afterAll(() => rm(root, { recursive: true }));

test('a dry run tells parts, shapes, trainable parameters, tokens, steps and memory', async () => {
  const { recipe: _, ...found } = await dryRun(recipe, { root });
  expect(found).toMatchInlineSnapshot(`
    {
      "parameters": 45792,
      "parts": {
        "connector": {
          "parameters": 5184,
          "shape": "[16, 32] to [4, 32]",
          "type": "pixel-shuffle",
        },
        "language": {
          "parameters": 21280,
          "shape": "[T, 32] to [T, 20]",
          "type": "llama",
        },
        "vision": {
          "parameters": 19328,
          "shape": "[3, 16, 16] to [16, 32]",
          "type": "clip",
        },
      },
      "stages": [
        {
          "memory": {
            "activations": 557056,
            "gradients": 183168,
            "optimizer": 366336,
            "parameters": 183168,
            "total": 1289728,
          },
          "name": "align",
          "rows": 12,
          "sample": {
            "cut": 0,
            "images": 12,
            "maxTokens": 8,
            "meanSupervised": 4,
            "meanTokens": 8,
            "rows": 12,
            "unusable": 0,
          },
          "steps": 60,
          "trainable": {
            "connector": 5184,
            "language": 21280,
            "vision": 19328,
          },
          "warmupSteps": 6,
        },
        {
          "memory": {
            "activations": 321908,
            "gradients": 105856,
            "optimizer": 211712,
            "parameters": 183168,
            "total": 822644,
          },
          "name": "instruct",
          "rows": 33,
          "sample": {
            "cut": 0,
            "images": 32,
            "maxTokens": 11,
            "meanSupervised": 2.484848484848485,
            "meanTokens": 9.757575757575758,
            "rows": 33,
            "unusable": 0,
          },
          "steps": 100,
          "trainable": {
            "connector": 5184,
            "language": 21280,
            "vision": 0,
          },
          "warmupSteps": 10,
        },
      ],
    }
  `);
});

test('micro-batches and recomputing take less memory', async () => {
  const activations = async (options: { microBatch?: number; recompute?: boolean }) =>
    (await dryRun(recipe, { root, ...options })).stages[0]?.memory.activations ?? Number.NaN;
  const whole = await activations({});
  expect(await activations({ microBatch: 2 })).toBeCloseTo(whole / 4);
  expect(await activations({ recompute: true })).toBeLessThan(whole);
});

test('as many conversations go through at once as have the tokens beyond which nothing gets faster, unless said otherwise', async () => {
  const large = await readRecipe(file, [parseOverride(`model.vision=${tower}`), parseOverride('stages.align.batchSize=40000')]);
  const estimated = (options: { microBatch?: number }) => dryRun(large, { root, ...options });
  const { parts, stages } = await estimated({});
  // Captions of eight tokens.
  const microBatch = Math.floor(2 ** 32 / parts.language.parameters / 8);
  expect(microBatch).toBeLessThan(40_000);
  expect(stages[0]?.memory.activations).toBe((await estimated({ microBatch })).stages[0]?.memory.activations);
});

test('a model of 1.1 billion parameters is counted without memory for them', async () => {
  const big = await readRecipe(
    file,
    ['hiddenSize=2048', 'intermediateSize=5632', 'numHiddenLayers=22', 'numAttentionHeads=32', 'numKeyValueHeads=4', 'vocabSize=32000'].map(
      (set) => parseOverride(`model.language.${set}`),
    ),
  );
  const before = memory();
  const { parts, stages } = await dryRun(big, { root });
  expect(parts.language).toMatchObject({ parameters: 1_034_512_384, shape: '[T, 2048] to [T, 32000]' });
  expect(stages[1]?.memory.optimizer).toBe(8 * ((stages[1]?.trainable.language ?? 0) + (stages[1]?.trainable.connector ?? 0)));
  expect(memory().rssBytes - before.rssBytes).toBeLessThan(200e6);
});

test('what training would stumble over is found', async () => {
  const rows = (image: string | undefined, question: string) => [
    {
      image,
      conversations: [
        { from: 'human', value: image ? `<image>\n${question}` : question },
        { from: 'gpt', value: 'yes' },
      ],
    },
  ];
  const complaint = async (name: string, content: unknown, change: Partial<RecipeInput['stages'][number]> = {}): Promise<string> => {
    await writeFile(join(root, `${name}.json`), JSON.stringify(content));
    const stages = recipe.stages.slice(0, 1).map((stage) => ({ ...stage, ...change, data: { conversations: `${name}.json` } }));
    const error: unknown = await dryRun(parseRecipe({ ...recipe, stages }), { root }).catch((error: unknown) => error);
    return String((error as Error).message).replaceAll(root, 'ROOT');
  };
  expect(await complaint('missing', rows('none.png', 'is it red?'))).toMatchInlineSnapshot(
    `"ROOT/missing.json#0: ROOT/none.png does not exist"`,
  );
  expect(await complaint('tags', [{ ...rows(undefined, 'is it red?')[0], image: 'tiny/red-16.png' }])).toMatchInlineSnapshot(
    `"ROOT/tags.json#0: 0 <image> tags but 1 image"`,
  );
  expect(await complaint('long', rows('tiny/red-16.png', 'is it red?'), { maxLength: 5 })).toMatchInlineSnapshot(
    `"ROOT/long.json#0: nothing is learned from its 5 tokens"`,
  );
  expect(await complaint('empty', [])).toMatchInlineSnapshot(`"stage align: the data has no rows"`);
  await writeFile(join(root, 'broken.png'), 'no image');
  expect(await complaint('broken', rows('broken.png', 'is it red?'))).toMatchInlineSnapshot(
    `"ROOT/broken.json#0: ROOT/broken.png cannot be decoded as an image: Input buffer contains unsupported image format"`,
  );
  const small = await readRecipe(file, [parseOverride('model.language.vocabSize=8')]);
  await expect(dryRun(small, { root })).rejects.toThrow('model.language.vocabSize is 8, but the tokenizer has 20 ids');
  expect(
    await complaint('captions', rows(undefined, 'is it red?'), { validation: { data: { conversations: 'none.json' }, every: 1 } }),
  ).toBe('ROOT/none.json does not exist');
  expect(
    await complaint('captions', rows(undefined, 'is it red?'), { validation: { data: { conversations: 'broken.json' }, every: 1 } }),
  ).toMatch(/^ROOT\/broken.json#0: ROOT\/broken.png cannot be decoded as an image/);
  const alone = { learns: { language: 'lora' }, merge: false } as const;
  expect(await complaint('captions', rows(undefined, 'is it red?'), alone)).toBe(
    'stage align: merge: false, but there is no checkpoint that the adapter could be for',
  );
});

test("a stage that cuts rows only behind the language model's context says so, and so does the run", async () => {
  const [stage] = recipe.stages as [Recipe['stages'][number]];
  const beyond = { maxLength: 64, contextTokens: 32 };
  const short = await readRecipe(file, [parseOverride(`model.vision=${tower}`), parseOverride('model.language.maxPositionEmbeddings=32')]);
  const given = {
    ...short,
    stages: [
      { ...stage, maxLength: 32 },
      { ...stage, name: 'long', maxLength: 64, epochs: 1 },
    ],
  };
  const { stages } = await dryRun(given, { root });
  expect(stages.map(({ beyondContext }) => beyondContext)).toEqual([undefined, beyond]);
  const events: LogEvent[] = [];
  await train({ ...given, stages: given.stages.slice(1) }, { root, workers: 0, log: (event) => events.push(event) });
  expect(events[0]).toEqual({ event: 'beyond-context', stage: 'long', ...beyond });
});

test('rows that the stage says to skip are counted', async () => {
  const row = (from: string, image = 'tiny/red-16.png') => ({
    image,
    conversations: [
      { from, value: '<image>\nis it red?' },
      { from: 'gpt', value: 'yes' },
    ],
  });
  const sample = async (rows: readonly object[]) => {
    await writeFile(join(root, 'holes.json'), JSON.stringify(rows));
    const stages = recipe.stages
      .slice(0, 1)
      .map((stage) => ({ ...stage, data: { conversations: 'holes.json' }, unusableRows: 'skip' as const }));
    return (await dryRun(parseRecipe({ ...recipe, stages }), { root })).stages[0]?.sample;
  };
  expect(await sample([row('human'), row('nobody'), row('human', 'none.png'), row('human')])).toMatchObject({
    rows: 2,
    unusable: 2,
    images: 2,
  });
  await expect(sample([row('nobody')])).rejects.toThrow('stage align: none of 1 sampled rows can be used');
});
