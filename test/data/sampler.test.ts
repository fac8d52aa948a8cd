import { describe, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import type { RowSource } from '../../src/data/rows.ts';
import { Sampler, type SamplerOptions } from '../../src/data/sampler.ts';
import { rowsPerEpoch } from '../../src/data/shares.ts';
import { holdOut } from '../../src/data/subset.ts';
import { partOf } from './files.ts';

const take = (sampler: Sampler, steps: number): number[][] => Array.from({ length: steps }, () => [...sampler.next()]);
const options: SamplerOptions = { parts: [partOf(10)], batchSize: 4, seed: 3 };
const sizes = (text: readonly number[], images: readonly number[] = text.map(() => 0)) => ({
  text: Uint32Array.from(text),
  images: Uint16Array.from(images),
});

test('the generator gives the same numbers everywhere, and other ones for other seeds and streams', () => {
  const numbers = (random: Random): number[] => Array.from({ length: 4 }, () => random.next());
  expect(numbers(new Random(1))).toMatchInlineSnapshot(`
    [
      2317529112,
      1004244359,
      3102047685,
      1007500040,
    ]
  `);
  expect(
    new Set(
      [new Random(1), new Random(2), new Random(1, 1), new Random(1, 2), new Random(2 ** 32 + 1)].map((random) => numbers(random).join()),
    ).size,
  ).toBe(5);
});

test('the state of a generator goes on where it was', () => {
  const random = new Random(5);
  random.next();
  const copy = new Random(0);
  copy.state = random.state;
  expect([copy.next(), copy.next()]).toEqual([random.next(), random.next()]);
});

test('numbers below a bound are all likely alike', () => {
  const random = new Random(9);
  const counts = new Array<number>(7).fill(0);
  for (let i = 0; i < 70_000; i++) {
    const number = random.below(7);
    counts[number] = (counts[number] ?? 0) + 1;
  }
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
});

test('shuffling reaches every order', () => {
  const random = new Random(1);
  const orders = new Map<string, number>();
  for (let i = 0; i < 24_000; i++) {
    const order = random.shuffle([0, 1, 2, 3]).join('');
    orders.set(order, (orders.get(order) ?? 0) + 1);
  }
  expect(orders.size).toBe(24);
  for (const count of orders.values()) expect(Math.abs(count - 1000)).toBeLessThan(200);
});

describe('a sampler', () => {
  test('gives every row once an epoch, in another order each time', () => {
    const steps = take(new Sampler(options), 6);
    expect(steps.map((rows) => rows.length)).toEqual([4, 4, 2, 4, 4, 2]);
    const epochs = [steps.slice(0, 3).flat(), steps.slice(3).flat()];
    for (const epoch of epochs) expect(epoch.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(new Sampler(options).stepsPerEpoch).toBe(3);
  });

  test('repeats with its seed and differs with another', () => {
    expect(take(new Sampler(options), 9)).toEqual(take(new Sampler(options), 9));
    expect(take(new Sampler(options), 9)).not.toEqual(take(new Sampler({ ...options, seed: 4 }), 9));
  });

  test('goes on exactly from any state', () => {
    const whole = take(new Sampler(options), 9);
    for (let done = 0; done < 8; done++) {
      const first = new Sampler(options);
      take(first, done);
      expect(take(new Sampler({ ...options, state: first.state }), 9 - done)).toEqual(whole.slice(done));
    }
  });

  test('keeps the order of the file when told to', () => {
    expect(take(new Sampler({ ...options, order: 'sequential' }), 4)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
      [0, 1, 2, 3],
    ]);
  });

  test('groups rows of like length, each once, and differs between epochs', () => {
    const random = new Random(2);
    const lengths = Array.from({ length: 403 }, () => random.below(1000));
    const sampler = new Sampler({ parts: [partOf(403)], batchSize: 8, seed: 1, order: 'length-grouped', sizes: sizes(lengths) });
    const epochs = [take(sampler, 51), take(sampler, 51)];
    for (const epoch of epochs) {
      expect(epoch.flat().toSorted((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
      const spread = epoch.map((rows) => Math.max(...rows.map((i) => lengths[i] ?? 0)) - Math.min(...rows.map((i) => lengths[i] ?? 0)));
      expect(spread.reduce((sum, value) => sum + value, 0) / spread.length).toBeLessThan(60);
      expect(epoch.at(-1)).toHaveLength(3);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
  });

  test('groups data of one kind and data shorter than a step', () => {
    expect(
      take(new Sampler({ parts: [partOf(3)], batchSize: 8, seed: 1, order: 'length-grouped', sizes: sizes([0, 0, 0]) }), 1)[0]?.toSorted(),
    ).toEqual([0, 1, 2]);
  });

  test('refuses what does not fit', () => {
    expect(() => new Sampler({ ...options, parts: [] })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: there are no rows to take batches from]`,
    );
    expect(() => new Sampler({ ...options, batchSize: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: batchSize must be a positive whole number, got 0]`,
    );
    expect(() => new Sampler({ ...options, order: 'length-grouped', sizes: sizes([1]) })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: 1 sizes for 10 rows]`,
    );
    expect(() => new Sampler({ ...options, state: { epoch: 0, position: 11 } })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: cannot go on at row 11 of 10]`,
    );
  });
});

describe('steps of like rows', () => {
  const random = new Random(4);
  const images = Array.from({ length: 1003 }, () => (random.below(3) === 0 ? 0 : 1 + random.below(2)));
  const text = images.map(() => random.below(500));
  const given = { parts: [partOf(1003)], batchSize: 8, seed: 2, sizes: sizes(text, images) };

  test.each(['shuffle', 'length-grouped'] as const)('have images or none, by %s', (order) => {
    const sampler = new Sampler({ ...given, order, modalities: 'apart' });
    const epochs = [take(sampler, sampler.stepsPerEpoch), take(sampler, sampler.stepsPerEpoch)];
    for (const steps of epochs) {
      expect(steps.flat().toSorted((a, b) => a - b)).toEqual(images.map((_, i) => i));
      const kinds = steps.map((rows) => new Set(rows.map((row) => images[row] !== 0)).size);
      // what fills no step of its kind is in the last two
      expect(kinds.slice(0, -2).every((count) => count === 1)).toBe(true);
      expect(new Set(steps.slice(0, -2).map(([row = 0]) => images[row] !== 0)).size).toBe(2);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
  });

  test('count what an image takes', () => {
    const sampler = new Sampler({ ...given, order: 'length-grouped', imageBytes: 1e6 });
    const steps = take(sampler, 100);
    const spread = steps.map((rows) => new Set(rows.map((row) => images[row])).size);
    expect(spread.filter((count) => count === 1).length).toBeGreaterThan(90);
  });

  test('go on exactly from any state', () => {
    const all = { ...given, order: 'length-grouped', modalities: 'apart', buffer: 300 } as const;
    const whole = take(new Sampler(all), 300);
    const first = new Sampler(all);
    take(first, 170);
    expect(take(new Sampler({ ...all, state: first.state }), 130)).toEqual(whole.slice(170));
  });
});

describe('blocks', () => {
  /** The most blocks that rows at a place of the order and later, and rows before it, both have. */
  function openAtOnce(order: readonly number[], size: number): number {
    const [first, last] = [new Map<number, number>(), new Map<number, number>()];
    for (const [at, row] of order.entries()) {
      const block = Math.floor(row / size);
      if (!first.has(block)) first.set(block, at);
      last.set(block, at);
    }
    return Math.max(...order.map((_, at) => [...first].filter(([block, from]) => from <= at && at <= (last.get(block) ?? 0)).length));
  }

  test.each([
    ['take no more memory than there is', { memory: 0.25 }, undefined, 4],
    ['are open one at a time where one fills the memory', { memory: 1 }, undefined, 1],
    ['are open until they have the rows of the buffer', {}, 130, 3],
    ['are all open where all fit', { memory: 0.01 }, undefined, 20],
  ])('%s', (_, block, buffer, open) => {
    const parts = [partOf(1000, { size: 50, ...block })];
    const sampler = new Sampler({ parts, batchSize: 1000, seed: 5, buffer });
    const epochs = [...take(sampler, 2)];
    for (const order of epochs) {
      expect(order.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
      expect(openAtOnce(order, 50)).toBe(open);
      // neighbours in a file are seldom neighbours in the order
      expect(order.filter((row, i) => Math.abs(row - (order[i + 1] ?? row)) === 1).length).toBeLessThan(100);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
  });
});

test('rows that are held out come from few blocks where these are read as a whole, and from all sources', () => {
  const rows: RowSource = {
    length: 2000,
    parts: [partOf(1000, { size: 50, memory: 0.5, repeat: 3 }), partOf(1000, { size: 50 })],
    row: () => Promise.reject(new Error('nobody asks')),
    nameOf: String,
    sizes: () => Promise.reject(new Error('nobody asks')),
  };
  const { rest, heldOut } = holdOut(rows, 60, 3);
  const blocks = heldOut.parts.map((part) => part.blocks.filter((block) => block.rows > 0).length);
  expect(blocks[0]).toBeLessThanOrEqual(3);
  expect(blocks[1]).toBeGreaterThan(8);
  for (const part of heldOut.parts) expect(part.rows).toBeGreaterThan(15);
  expect(heldOut.length + rest.length).toBe(2000);
  expect(rest.parts.map(({ repeat }) => repeat)).toEqual([3, undefined]);
});

describe('parts', () => {
  const drawn = (steps: number[][], from: number, to: number): number[] => steps.flat().filter((row) => row >= from && row < to);
  const times = (rows: readonly number[]): number[] => [...new Set(rows)].map((row) => rows.filter((other) => other === row).length).sort();

  test('come as often as they are repeated, by turns where that is a part of them', () => {
    const parts = [partOf(10, { repeat: 2 }), partOf(7, { repeat: 0.5 }), partOf(4)];
    expect(rowsPerEpoch(parts)).toEqual([20, 4, 4]);
    const sampler = new Sampler({ parts, batchSize: 28, seed: 1 });
    const [first = [], second = []] = take(sampler, 2);
    expect(times(drawn([first], 0, 10))).toEqual(Array(10).fill(2));
    expect(times(drawn([first], 17, 21))).toEqual([1, 1, 1, 1]);
    // seven of eight in two epochs are all of them
    expect(times(drawn([first, second], 10, 17))).toEqual([1, 1, 1, 1, 1, 1, 2]);
  });

  test('have what their weight says of an epoch, and none of their rows comes twice before all have come', () => {
    const parts = [partOf(90, { weight: 1 }), partOf(10, { weight: 3 }), partOf(50, { weight: 2 })];
    expect(rowsPerEpoch(parts)).toEqual([25, 75, 50]);
    const sampler = new Sampler({ parts, batchSize: 10, seed: 1 });
    const steps = take(sampler, 15 * 4);
    expect(times(drawn(steps, 0, 90))).toEqual([...Array(80).fill(1), ...Array(10).fill(2)]);
    expect(times(drawn(steps, 90, 100))).toEqual(Array(10).fill(30));
    expect(times(drawn(steps, 100, 150))).toEqual(Array(50).fill(4));
    // and all of an epoch, not one part behind the other
    for (const half of [steps.slice(0, 7), steps.slice(8, 15)]) expect(drawn(half, 90, 100).length).toBeGreaterThan(20);
  });

  test('share what rounding leaves, and those without rows have nothing', () => {
    expect(rowsPerEpoch([partOf(3, { weight: 1 }), partOf(4, { weight: 1 }), partOf(4, { weight: 1 })])).toEqual([4, 4, 3]);
    expect(rowsPerEpoch([partOf(0, { weight: 9 }), partOf(4, { weight: 1 })])).toEqual([0, 4]);
    expect(rowsPerEpoch([partOf(0), partOf(1, { repeat: 0.1 })])).toEqual([0, 1]);
  });

  test('keep their order where that is asked for', () => {
    const parts = [partOf(2, { repeat: 1.5 }), partOf(3)];
    expect(take(new Sampler({ parts, batchSize: 6, seed: 1, order: 'sequential' }), 2)).toEqual([
      [0, 1, 0, 2, 3, 4],
      [1, 0, 1, 2, 3, 4],
    ]);
  });
});
