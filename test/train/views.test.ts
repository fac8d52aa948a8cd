import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadModel } from '../../src/generate/generate.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { dryRun } from '../../src/train/dry-run.ts';
import type { Recipe } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { train } from '../../src/train/trainer.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  // One picture is wide, so that images of one batch differ in their tiles.
  const wide = sharp({ create: { width: 40, height: 16, channels: 3, background: '#e02020' } });
  await writeFile(join(root, 'tiny/red-20.png'), await wide.png().toBuffer());
  const read = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  recipe = { ...read, stages: read.stages.slice(0, 1).map(({ epochs: _, ...stage }) => ({ ...stage, steps: 4, maxLength: 200 })) };
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

const tilings = {
  dynamic: { type: 'dynamic', minTiles: 1, maxTiles: 4 },
  split: { type: 'split', longestEdge: 32, tiles: true },
  anyres: {
    type: 'anyres',
    pinpoints: [
      [16, 32],
      [32, 16],
      [32, 32],
    ],
    several: 'tiles',
  },
} satisfies Record<string, Recipe['processor']['image']['tiling']>;

test.each(Object.keys(tilings) as (keyof typeof tilings)[])('images in %s tiles are trained on, saved and asked about', async (name) => {
  const tiled: Recipe = { ...recipe, processor: { ...recipe.processor, image: { tiling: tilings[name] } } };
  const { stages } = await dryRun(tiled, { root });
  const plain = await dryRun(recipe, { root });
  expect(stages[0]?.sample.meanTokens).toBeGreaterThan((plain.stages[0]?.sample.meanTokens ?? 0) + 2);

  const out = join(root, name);
  const { model, stages: run } = await train(tiled, { root, out, workers: 0 });
  const losses = run[0]?.steps.map(({ loss }) => loss) ?? [];
  expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0);
  const chat = await loadModel(join(out, 'align'));
  expect(chat.model.config).toEqual(model.config);
  expect(chat.processor.image.config.tiling).toEqual(tilings[name]);
  const answer = await chat.generate({
    messages: [{ role: 'user', content: 'what?' }],
    images: [join(root, 'tiny/red-20.png')],
    maxNewTokens: 2,
  });
  expect(answer.usage.promptTokens).toBeGreaterThan(model.imageTokens + 4);
  chat.free();
});

test('the token behind the rows of tiles learns with the connector, and stays when it is frozen', async () => {
  const tiled: Recipe = { ...recipe, processor: { ...recipe.processor, image: { tiling: tilings.anyres } } };
  const newline = async (learns: Recipe['stages'][number]['learns']) => {
    const stages = tiled.stages.map((stage) => ({ ...stage, learns, steps: 2 }));
    const { model } = await train({ ...tiled, stages }, { root, workers: 0 });
    return model.arrangement?.imageNewline.toList();
  };
  const [frozen, full] = [{ tune: 'frozen' }, { tune: 'full' }] as const;
  const before = await newline({ vision: frozen, connector: frozen, language: full });
  expect(await newline({ vision: full, connector: frozen, language: frozen })).toEqual(before);
  expect(await newline({ vision: frozen, connector: full, language: frozen })).not.toEqual(before);
});
