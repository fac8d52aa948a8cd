import { rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Batch, microBatches, microBatchLimits } from '../../src/data/batch.ts';
import { Dataset } from '../../src/data/dataset.ts';
import { inspectData } from '../../src/data/inspect.ts';
import { Loader, type LoaderOptions } from '../../src/data/loader.ts';
import { Mixture } from '../../src/data/mixture.ts';
import { openRows } from '../../src/data/open-rows.ts';
import { Sampler } from '../../src/data/sampler.ts';
import { DataError } from '../../src/errors.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { Processor } from '../../src/processor/processor.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { type Device, liveTensors } from '../../src/tensor/device.ts';
import type { DType } from '../../src/tensor/dtype.ts';
import { colour, folderWith, partOf, row } from './files.ts';

const tokenizer = wordLevelTokenizer(splitWords('What color is it? red green blue a b c d e f'));
const image = new ImageProcessor({ size: { height: 4, width: 4 } });
const processor = new Processor({ tokenizer, image, template: 'tiny', imageTokens: 2 });

const rows = [
  row('red.png', '<image>\nWhat color is it?', 'red'),
  row(undefined, 'a b c', 'd'),
  row('green.png', '<image>\nWhat color is it?', 'green', 'a?', 'b'),
  row(['red.png', 'blue.png'], '<image> <image>', 'a'),
  row(undefined, 'a', 'b c d e f'),
  row('blue.png', 'What? <image>', 'blue'),
  row('red.png', '<image>', 'a red'),
];
const folder = await folderWith({
  'data.json': rows,
  'red.png': await colour(255, 0, 0),
  'green.png': await colour(0, 255, 0, { width: 31, height: 9 }),
  'blue.png': await colour(0, 0, 255),
});
const dataset = await Dataset.open(join(folder, 'data.json'));

function loader(options: Partial<LoaderOptions> & { sampler?: Sampler } = {}): Loader {
  const { rows: source = dataset } = options;
  const sampler = options.sampler ?? new Sampler({ parts: source.parts, batchSize: 3, seed: 1 });
  return new Loader({ rows: source, processor, sampler, microBatch: { examples: 2 }, workers: 0, ...options });
}

/** A batch as plain values. */
const plain = ({ ids, labels, lengths, rows: names, pixels }: Batch): unknown => ({
  ids: [...ids],
  labels: [...labels],
  lengths,
  names,
  pixels: pixels?.toList(),
});

async function steps(from: Loader, count: number): Promise<unknown[]> {
  const taken: unknown[] = [];
  for (let i = 0; i < count; i++) {
    const step = await from.next();
    taken.push([...step.batches()].length, { ...step, batches: Array.from(step.batches(), plain) });
  }
  return taken;
}

test('a step packs its conversations behind each other with their pixels', async () => {
  await using loading = loader({ sampler: new Sampler({ parts: [partOf(7)], batchSize: 3, seed: 0, order: 'sequential' }) });
  const step = await loading.next();
  const seen: unknown[] = [];
  for (const batch of step.batches()) {
    expect(batch.ids.length).toBe(batch.lengths.reduce((sum, length) => sum + length, 0));
    seen.push({
      text: tokenizer.decode(batch.ids, { keepSpecial: true }),
      lengths: batch.lengths,
      rows: batch.rows.map((name) => name.replace(folder, '…')),
    });
    seen.push(batch.pixels?.shape, batch.pixels?.select(2, 0).select(2, 0).toList());
  }
  expect(seen).toMatchInlineSnapshot(`
    [
      {
        "lengths": [
          9,
          5,
        ],
        "rows": [
          "…/data.json#0",
          "…/data.json#1",
        ],
        "text": "<image> <image> What color is it? red </s> a b c d </s>",
      },
      [
        1,
        3,
        4,
        4,
      ],
      [
        [
          1,
          0,
          0,
        ],
      ],
      {
        "lengths": [
          13,
        ],
        "rows": [
          "…/data.json#2",
        ],
        "text": "<image> <image> What color is it? green </s> a? b </s>",
      },
      [
        1,
        3,
        4,
        4,
      ],
      [
        [
          0,
          1,
          0,
        ],
      ],
    ]
  `);
  expect([step.examples, step.tokens, step.supervisedTokens]).toEqual([3, 27, 8]);
});

test('conversations that are cut are counted', async () => {
  await using loading = loader({
    maxLength: 5,
    sampler: new Sampler({ parts: [partOf(7)], batchSize: 7, seed: 0, order: 'sequential' }),
    unusable: 'skip',
  });
  const { cut, examples, tokens } = await loading.next();
  expect({ cut, examples, tokens }).toMatchInlineSnapshot(`
    {
      "cut": 3,
      "examples": 5,
      "tokens": 25,
    }
  `);
});

test('labels stay with their ids when packed', async () => {
  await using loading = loader();
  for (const { ids, labels } of (await loading.next()).batches()) {
    for (const [i, label] of labels.entries()) expect([-100, ids[i]]).toContain(label);
  }
});

describe('steps are the same', () => {
  const wanted = (async () => {
    await using loading = loader();
    return await steps(loading, 7);
  })();

  test.each([0, 1, 5])('whatever the prefetch (%i)', async (prefetch) => {
    await using loading = loader({ prefetch });
    expect(await steps(loading, 7)).toEqual(await wanted);
  });
  test('with images from other threads', async () => {
    await using loading = loader({ workers: 2 });
    expect(await steps(loading, 7)).toEqual(await wanted);
  });
  test.each([0, 1, 100, 1e9])('with a cache of %i bytes', async (cacheBytes) => {
    await using loading = loader({ cacheBytes });
    expect(await steps(loading, 7)).toEqual(await wanted);
  });
  test.each([1, 3, 6])('when going on after %i of them', async (done) => {
    await using first = loader({ prefetch: 4 });
    for (let i = 1; i < done; i++) await first.next();
    const { state } = await first.next();
    await using second = loader({ sampler: new Sampler({ parts: [partOf(7)], batchSize: 3, seed: 1, state }) });
    expect(await steps(second, 7 - done)).toEqual((await wanted).slice(2 * done));
  });
});

test('a cache keeps pixels of files that are gone', async () => {
  const at = await folderWith({ 'data.json': [rows[0]], 'red.png': await colour(255, 0, 0) });
  using data = await Dataset.open(join(at, 'data.json'));
  await using loading = loader({
    rows: data,
    cacheBytes: 1e6,
    prefetch: 0,
    sampler: new Sampler({ parts: [partOf(1)], batchSize: 1, seed: 0 }),
  });
  await loading.next();
  await rm(join(at, 'red.png'));
  expect((await loading.next()).examples).toBe(1);
  await using without = loader({ rows: data, cacheBytes: 0 });
  await expect(without.next()).rejects.toThrow('red.png does not exist');
});

test('pixels live from when their batch is taken until the next is', async () => {
  await using loading = loader();
  const before = liveTensors();
  const step = await loading.next();
  expect(liveTensors()).toBe(before);
  for (const { pixels } of step.batches()) expect(liveTensors()).toBe(before + (pixels ? 1 : 0));
  expect(liveTensors()).toBe(before);
  for (const _ of step.batches()) break;
  expect(liveTensors()).toBe(before);
});

describe('a row that cannot be used', () => {
  const broken = async () => {
    const at = await folderWith({
      'data.json': [
        row(undefined, 'a', 'b'),
        row('gone.png', '<image>', 'a'),
        row('cut.png', '<image>', 'a'),
        row(undefined, 'a'),
        row(undefined, 'a b c d', 'e'),
        row(undefined, 'c', 'd'),
      ],
    });
    await writeFile(join(at, 'cut.png'), (await colour(1, 2, 3)).subarray(0, 40));
    return { at, data: await Dataset.open(join(at, 'data.json')) };
  };

  test.each([0, 1])('is named, with %i threads', async (workers) => {
    const { at, data } = await broken();
    using _ = data;
    await using loading = loader({
      rows: data,
      workers,
      maxLength: 4,
      sampler: new Sampler({ parts: [partOf(6)], batchSize: 1, seed: 0, order: 'sequential' }),
    });
    const outcomes: string[] = [];
    for (let i = 0; i < 6; i++) {
      outcomes.push(
        await loading.next().then(
          ({ examples }) => `${examples} example`,
          (error: Error) => `${error.name}: ${error.message.replaceAll(at, '…')}`,
        ),
      );
    }
    expect(outcomes).toEqual([
      '1 example',
      'DataError: …/data.json#1: …/gone.png does not exist',
      'DataError: …/data.json#2: …/cut.png cannot be decoded as an image: Input buffer has corrupt header',
      'DataError: …/data.json#3: no question is answered',
      'DataError: …/data.json#4: nothing is learned from its 4 tokens',
      '1 example',
    ]);
  });

  test.runIf(process.platform === 'linux').each([0, 1])('for the system alone is not left out, with %i threads', async (workers) => {
    const at = await folderWith({ 'data.json': [row('failing.png', '<image>', 'a'), row(undefined, 'c', 'd')] });
    await symlink('/proc/self/mem', join(at, 'failing.png')); // fails with EIO, as disks do
    using data = await Dataset.open(join(at, 'data.json'));
    await using loading = loader({ rows: data, workers, unusable: 'skip' });
    const error = await loading.next().catch((cause: Error) => cause);
    expect(error).not.toBeInstanceOf(DataError);
    expect(error).toMatchObject({ name: 'TinyLlavaError', message: `${at}/failing.png cannot be read: EIO: i/o error, read` });
    for (const threads of [0, 1])
      await expect(inspectData(join(at, 'data.json'), { threads })).rejects.toThrow('failing.png cannot be read');
    await rename(join(at, 'failing.png'), join(at, 'a.txt'));
    await writeFile(join(at, 'a.png'), '');
    using captioned = await openRows(at);
    await expect(captioned.row(0)).rejects.toThrow('a.txt cannot be read: EIO');
    await expect(captioned.row(0)).rejects.not.toBeInstanceOf(DataError);
  });

  test('is left out and told of when told to', async () => {
    const { at, data } = await broken();
    using _ = data;
    const sampler = new Sampler({ parts: [partOf(6)], batchSize: 3, seed: 0, order: 'sequential' });
    await using loading = loader({ rows: data, maxLength: 4, unusable: 'skip', prefetch: 0, sampler });
    const steps = [await loading.next(), await loading.next()];
    expect(steps.map((step) => Array.from(step.batches(), (batch) => batch.rows))).toEqual([
      [[`${at}/data.json#0`]],
      [[`${at}/data.json#5`]],
    ]);
    expect(steps.map(({ skipped }) => skipped.map(({ row }) => row))).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });
});

test('nothing is read behind the last step', async () => {
  let read = 0;
  const counted = {
    ...dataset,
    parts: dataset.parts,
    length: dataset.length,
    row: async (index: number) => {
      read++;
      return dataset.row(index);
    },
  };
  await using loading = loader({ rows: counted as unknown as LoaderOptions['rows'], steps: 2 });
  for (let i = 0; i < 2; i++) await loading.next();
  expect(read).toBe(6);
});

test('closing ends threads and waits for nobody', async () => {
  const loading = loader({ workers: 2, prefetch: 5 });
  const pending = expect(loading.next()).rejects.toThrow('the image pool was closed');
  await loading.close();
  await pending;
  await expect(loading.next()).rejects.toThrow('the loader was closed');
});

test('micro-batches keep to examples and tokens, and a long conversation stands alone', () => {
  const lengths = (counts: number[], limits: { examples: number; tokens?: number }): number[][] =>
    microBatches(
      counts.map((count) => ({ ids: new Int32Array(count) })),
      limits,
    ).map((group) => group.map(({ ids }) => ids.length));
  expect(lengths([5, 5, 5, 5, 5], { examples: 2 })).toEqual([[5, 5], [5, 5], [5]]);
  expect(lengths([5, 5, 1, 20, 3, 7, 8], { examples: 3, tokens: 10 })).toEqual([[5, 5], [1], [20], [3, 7], [8]]);
  expect(lengths([], { examples: 3 })).toEqual([]);
});

test('micro-batches are of 512 tokens on a CPU, more for small models, narrow dtypes and GPUs, unless they are given or ranks keep parts', () => {
  const limits = (parameters: number, options: Partial<{ examples: number; compute: DType; device: Device; sharded: boolean }> = {}) =>
    microBatchLimits(options.examples, {
      ...{ languageModel: { parameterCount: () => parameters }, compute: 'float32', device: 'cpu', sharded: false },
      ...options,
    });
  const all = Number.POSITIVE_INFINITY;
  expect(limits(134_515_008)).toEqual({ examples: all, tokens: 512 });
  expect(limits(134_515_008, { compute: 'bfloat16' })).toEqual({ examples: all, tokens: 2048 });
  expect(limits(1_000_000)).toEqual({ examples: all, tokens: 4294 });
  expect(limits(134_515_008, { device: 'cuda:0' })).toEqual({ examples: all, tokens: 16_384 });
  expect(limits(134_515_008, { examples: 3 })).toEqual({ examples: 3 });
  expect(limits(134_515_008, { sharded: true })).toEqual({ examples: all });
});

test('processes that share shards have all rows of a step between them, and none twice', async () => {
  using source = await openRows(join(import.meta.dirname, '../reference/data/captions.parquet'));
  const named = async (share?: { rank: number; size: number }): Promise<string[][]> => {
    const sampler = new Sampler({ parts: source.parts, batchSize: 3, seed: 4, buffer: 1 });
    await using loading = loader({ rows: source, sampler, ...(share && { share }) });
    const taken: string[][] = [];
    for (let i = 0; i < 4; i++) taken.push([...(await loading.next()).batches()].flatMap((batch) => batch.rows));
    return taken;
  };
  const [alone, ...ranks] = await Promise.all([undefined, 0, 1].map((rank) => named(rank === undefined ? rank : { rank, size: 2 })));
  expect(alone?.map((rows) => rows.length)).toEqual([3, 1, 3, 1]);
  expect(alone?.map((rows) => rows.toSorted())).toEqual(alone?.map((_, i) => ranks.flatMap((steps) => steps[i] ?? []).toSorted()));
});

test('a mixture gives its files one behind the other, each as far as asked', async () => {
  const at = await folderWith({ 'a.json': [row(undefined, 'a', 'b'), row(undefined, 'a', 'c')], 'sub/b.json': rows });
  using mixture = await Mixture.open([
    { file: join(at, 'a.json'), repeat: 2 },
    { file: join(at, 'sub/b.json'), imageFolder: folder, limit: 3 },
  ]);
  expect(mixture.length).toBe(5);
  const names = Array.from({ length: 5 }, (_, i) => mixture.nameOf(i).replace(`${at}/`, ''));
  expect(names).toEqual(['a.json#0', 'a.json#1', 'sub/b.json#0', 'sub/b.json#1', 'sub/b.json#2']);
  expect([...(await mixture.sizes()).images]).toEqual([0, 0, 1, 0, 1]);
  expect(mixture.parts.map(({ rows: count, repeat }) => [count, repeat])).toEqual([
    [2, 2],
    [3, 1],
  ]);
  expect((await mixture.row(2)).messages[0]?.content).toContainEqual({ type: 'image', image: join(folder, 'red.png') });
  await expect(mixture.row(5)).rejects.toThrow('there are 5 rows, there is no row 5');
  await expect(Mixture.open([{ file: join(at, 'a.json') }, { file: join(at, 'none.json') }])).rejects.toThrow('none.json does not exist');
});
