import { describe, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import { Sampler, type SamplerOptions } from '../../src/data/sampler.ts';

const take = (sampler: Sampler, steps: number): number[][] => Array.from({ length: steps }, () => [...sampler.next()]);
const options: SamplerOptions = { count: 10, batchSize: 4, seed: 3 };

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
    expect(take(new Sampler({ ...options, shuffle: false }), 4)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
      [0, 1, 2, 3],
    ]);
  });

  test('groups rows of like length, each once, and differs between epochs', () => {
    const random = new Random(2);
    const lengths = Array.from({ length: 403 }, () => random.below(1000));
    const sampler = new Sampler({ count: 403, batchSize: 8, seed: 1, lengths });
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
    expect(take(new Sampler({ count: 3, batchSize: 8, seed: 1, lengths: [0, 0, 0] }), 1)[0]?.toSorted()).toEqual([0, 1, 2]);
  });

  test('refuses what does not fit', () => {
    expect(() => new Sampler({ ...options, count: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: there are no rows to take batches from]`,
    );
    expect(() => new Sampler({ ...options, batchSize: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: batchSize must be a positive whole number, got 0]`,
    );
    expect(() => new Sampler({ ...options, lengths: [1] })).toThrowErrorMatchingInlineSnapshot(`[ConfigError: 1 lengths for 10 rows]`);
    expect(() => new Sampler({ ...options, state: { epoch: 0, position: 11 } })).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: cannot go on at row 11 of 10]`,
    );
  });
});
