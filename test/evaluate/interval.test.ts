import { describe, expect, test } from 'vitest';
import { mcnemar, wilson } from '../../src/evaluate/interval.ts';

describe('the Wilson interval', () => {
  // Newcombe 1998, Statistics in Medicine 17, table I, method 3.
  test.each([
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])('of %d out of %d is the published one', (successes, trials, low, high) => {
    const interval = wilson(successes, trials);
    expect(interval.low).toBeCloseTo(low, 4);
    expect(interval.high).toBeCloseTo(high, 4);
  });

  test('is symmetric in right and wrong, and exact at the ends', () => {
    const [a, b] = [wilson(3, 17), wilson(14, 17)];
    expect(a.low).toBeCloseTo(1 - b.high, 12);
    expect(wilson(17, 17).high).toBe(1);
    expect(wilson(0, 0)).toEqual({ low: 0, high: 1 });
  });
});

describe("McNemar's test", () => {
  const runs = (both: number, onlyFirst: number, onlySecond: number): [boolean[], boolean[]] => [
    [...Array(both).fill(true), ...Array(onlyFirst).fill(true), ...Array(onlySecond).fill(false)],
    [...Array(both).fill(true), ...Array(onlyFirst).fill(false), ...Array(onlySecond).fill(true)],
  ];

  // Exact binomial sums by Python's integers.
  test.each([
    [5, 15, 0.04138946533203125],
    [0, 6, 0.03125],
    [10, 10, 1],
    [121, 59, 4.434449263755176e-6],
    [700, 800, 0.010559255466711544],
    [0, 0, 1],
  ])('gives the exact p-value for %d against %d questions', (onlyFirst, onlySecond, pValue) => {
    const result = mcnemar(...runs(30, onlyFirst, onlySecond));
    expect(result).toMatchObject({ onlyFirst, onlySecond });
    expect(result.pValue / pValue).toBeCloseTo(1, 9);
  });

  test('gives 0 and not NaN for thousands of questions on one side', () => {
    expect(mcnemar(...runs(0, 3, 5000)).pValue).toBe(0);
  });
});
