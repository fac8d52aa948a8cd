import { expect, test } from 'vitest';
import { meanOf, slowest, slowestShared, spread } from '../../scripts/scaling/rows.ts';

const coin = [
  { share: 0.5, cost: 1 },
  { share: 0.5, cost: 3 },
];

test('the slowest of ranks takes the expected largest sum', () => {
  // One row of 1 or 3 each: the larger of two is 3 in three cases of four.
  expect(slowest(coin, { rows: 1, ranks: 2 })).toBeCloseTo((0.75 * 3 + 0.25 * 1) / 2, 1);
  // Two rows: sums of 2, 4, 6 with 1, 2, 1 quarters; the larger of two is 6 in 7, 4 in 8 and 2 in 1 case of 16.
  expect(slowest(coin, { rows: 2, ranks: 2 })).toBeCloseTo((7 * 6 + 8 * 4 + 2) / 16 / 4, 1);
  expect(slowest(coin, { rows: 5, ranks: 1 })).toBe(1);
  expect(slowest([{ share: 1, cost: 7 }], { rows: 3, ranks: 1000 })).toBeCloseTo(1, 10);
});

test('sums of many rows spread less, by the root of their number', () => {
  const [few, many] = [16, 64].map((rows) => slowest(coin, { rows, ranks: 8 }) - 1) as [number, number];
  expect(many).toBeCloseTo(few / 2, 10);
});

test('rows that are shared out by cost leave little to wait for', () => {
  expect(slowestShared(coin, { rows: 4, ranks: 4 })).toBeLessThan(slowest(coin, { rows: 4, ranks: 4 }));
  expect(slowestShared([{ share: 1, cost: 7 }], { rows: 3, ranks: 4 })).toBe(1);
});

test('texts are spread around their mean and cut', () => {
  const kinds = spread({ views: 1, mean: 100, deviation: 50, supervised: 0.5, most: 1000 }, 1, 400);
  expect(meanOf(kinds, ({ text }) => text)).toBeCloseTo(100, 0);
  expect(Math.sqrt(meanOf(kinds, ({ text }) => (text - 100) ** 2))).toBeCloseTo(50, -1);
  expect(meanOf(kinds, ({ supervised }) => supervised)).toBeCloseTo(50, 0);
  expect(Math.max(...spread({ views: 1, mean: 100, deviation: 90, supervised: 1, most: 120 }).map(({ text }) => text))).toBe(120);
});
