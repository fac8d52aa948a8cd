import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { visionTowers } from '../../src/model/vision/index.ts';
import type { VisionTower } from '../../src/model/vision/vision-tower.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { noGrad } from '../../src/tensor/autograd.ts';
import { indices } from '../../src/tensor/create.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { TowerFeatures } from '../../src/train/tower-features.ts';
import { train } from '../../src/train/trainer.ts';
import { tinyTowers } from '../model/tiny-parts.ts';
import { tinyData } from './tiny-data.ts';
import '../matchers.ts';

const image = new ImageProcessor({ size: { height: 16, width: 16 }, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] });
const bytes = 3 * 16 * 16;
const picture = (seed: number, views = 1): Uint8Array =>
  Uint8Array.from({ length: views * bytes }, (_, i) => (i * 37 + seed * 101 + (i % 7) * seed) % 256);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

function tower(name: keyof typeof visionTowers = 'siglip', seed = 0): VisionTower {
  const kind = visionTowers[name];
  return kind.create(kind.parse(tinyTowers[name], name), undefined).initialize(new Generator(seed));
}

const fresh = (model: VisionTower, images: readonly Uint8Array[]) => noGrad(() => model.forward(image.stack(images)));

test.each(['siglip', 'clip', 'efficientnet-lite', 'conv-vit'] as const)(
  '%s gives the same bits from memory, from disk and computed',
  (name) => {
    using _scope = new Scope();
    const model = tower(name);
    const images = [picture(1), picture(2), picture(1), picture(3)];
    const cache = new TowerFeatures(model, image, { folder });
    const first = cache.encode(images);
    expect(first).toMatchTensor(fresh(model, images), { atol: 1e-5 });
    expect(cache.encode(images).equal(first)).toBe(true);
    expect(cache.facts).toEqual({ fromMemory: 5, fromDisk: 0, computed: 3 });
    const later = new TowerFeatures(model, image, { folder });
    expect(later.encode([picture(3), picture(2)]).equal(first.indexSelect(0, indices([3, 1])))).toBe(true);
    expect(later.facts).toEqual({ fromMemory: 0, fromDisk: 2, computed: 0 });
    for (const one of [cache, later]) one.free();
  },
);

test('features that cannot be stored are computed all the same', async () => {
  using _scope = new Scope();
  const model = tower();
  const cache = new TowerFeatures(model, image, { folder, memoryBytes: 0 });
  const [own = ''] = await readdir(folder);
  await rm(join(folder, own), { recursive: true });
  await writeFile(join(folder, own), 'in the way');
  for (let i = 0; i < 2; i++) expect(cache.encode([picture(1)])).toMatchTensor(fresh(model, [picture(1)]), { atol: 1e-5 });
  expect(cache.facts).toEqual({ fromMemory: 0, fromDisk: 0, computed: 2 });
  cache.free();
});

test('a folder for features that cannot be made is refused', async () => {
  using _scope = new Scope();
  await writeFile(join(folder, 'file'), '');
  expect(() => new TowerFeatures(tower(), image, { folder: join(folder, 'file') })).toThrow('cannot be made: ENOTDIR');
});

test('several views of an image are known one by one', () => {
  using _scope = new Scope();
  const cache = new TowerFeatures(tower(), image);
  const [one, two] = [picture(1), picture(2)];
  const both = Uint8Array.from([...one, ...two]);
  expect(cache.encode([both]).shape).toEqual([2, 16, 8]);
  expect(cache.encode([two]).equal(cache.encode([both]).narrow(0, 1, 1))).toBe(true);
  expect(cache.facts.computed).toBe(2);
  cache.free();
});

test('memory is bounded, and all of it is given back', () => {
  const model = tower();
  const before = liveTensors();
  const cache = new TowerFeatures(model, image, { memoryBytes: 2 * 16 * 8 * 4 });
  for (let i = 0; i < 5; i++) {
    cache.encode([picture(i), picture(i + 1), picture(i + 2)]).free();
    expect(cache.bytes).toBe(2 * 16 * 8 * 4);
  }
  // the longest unused went first
  cache.encode([picture(5), picture(6)]).free();
  expect(cache.facts).toEqual({ fromMemory: 10, fromDisk: 0, computed: 7 });
  cache.free();
  expect(liveTensors()).toBe(before);
});

test('features of another tower, of other weights or of other image settings are never found', async () => {
  using _scope = new Scope();
  const centred = new ImageProcessor({ ...image.config, mean: [0.4, 0.5, 0.5] });
  const caches = [
    new TowerFeatures(tower(), image, { folder }),
    new TowerFeatures(tower('siglip', 1), image, { folder }),
    new TowerFeatures(tower('clip'), image, { folder }),
    new TowerFeatures(tower(), centred, { folder }),
  ];
  for (const cache of caches) {
    cache.encode([picture(1)]);
    expect(cache.facts.computed).toBe(1);
    cache.free();
  }
  expect(await readdir(folder)).toHaveLength(4);
});

test('a damaged file is computed and written again', async () => {
  using _scope = new Scope();
  const model = tower();
  const cache = new TowerFeatures(model, image, { folder });
  const expected = cache.encode([picture(1)]);
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.safetensors'));
  expect(files).toHaveLength(1);
  await writeFile(join(folder, files[0] ?? ''), 'cut off');
  for (const facts of [
    { fromMemory: 0, fromDisk: 0, computed: 1 },
    { fromMemory: 0, fromDisk: 1, computed: 0 },
  ]) {
    const later = new TowerFeatures(model, image, { folder });
    expect(later.encode([picture(1)]).equal(expected)).toBe(true);
    expect(later.facts).toEqual(facts);
    later.free();
  }
  cache.free();
});

test('a run gives the same bits with features kept in memory, on disk, found there, and never kept', async () => {
  const root = await tinyData();
  const usual = threads();
  setThreads(1);
  try {
    const recipe = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
    const stages = recipe.stages.map(({ epochs: _, learns, ...stage }) => ({
      ...stage,
      learns: { ...learns, vision: { tune: 'frozen' as const } },
      steps: 6,
    }));
    const runs: Float32Array[][] = [];
    for (const features of [undefined, { memoryBytes: 0 }, { folder }, { folder }, { folder, memoryBytes: 0 }]) {
      const { model } = await train({ ...recipe, stages }, { root, workers: 0, ...(features && { features }) });
      runs.push(Array.from(model.parameters(), (parameter) => parameter.toArray() as Float32Array));
    }
    for (const run of runs) expect(run).toEqual(runs[0]);
  } finally {
    setThreads(usual);
    await rm(root, { recursive: true });
  }
});
