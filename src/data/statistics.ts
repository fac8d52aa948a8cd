/** How numbers are spread. */
export interface Spread {
  readonly count: number;
  readonly total: number;
  readonly min: number;
  readonly mean: number;
  readonly median: number;
  /** 95 of 100 are at most this. */
  readonly p95: number;
  readonly max: number;
}

/** The spread of numbers; undefined when there are none. */
export function spreadOf(numbers: readonly number[]): Spread | undefined {
  const sorted = Float64Array.from(numbers).sort();
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (min === undefined || max === undefined) return undefined;
  const total = sorted.reduce((sum, value) => sum + value, 0);
  const rank = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? max;
  return { count: sorted.length, total, min, mean: total / sorted.length, median: rank(0.5), p95: rank(0.95), max };
}
