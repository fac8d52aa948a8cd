import { Random } from '../data/random.ts';
import type { Interval } from './interval.ts';
import type { Metric, Sample, Scored } from './task.ts';

/** Numbers of a result without their intervals. */
export type Values = readonly Omit<Metric, 'interval'>[];

/** Draws of samples for an interval. */
const draws = 1000;

/** The share of sorted numbers below which a part of them lies, between the nearest two. */
function quantile(sorted: Float64Array, part: number): number {
  const at = part * (sorted.length - 1);
  const [low = 0, high = low] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

/** How numbers come from sums over groups of samples. */
export interface FromSums<S extends Sample> {
  /** What belongs together, such as the questions about one image; by default every sample stands alone. */
  together?(sample: S): string;
  /** What a group adds to the sums. */
  sums(group: readonly Scored<S>[], add: (sum: string, amount: number) => void): void;
  /** The numbers, from the sums of all groups; a sum that nothing was added to is 0. */
  values(sum: (name: string) => number): Values;
}

/**
 * Numbers that are computed from sums, with 95 % intervals by the percentile bootstrap (Efron 1979): the groups are drawn again with replacement, and the
 * numbers computed anew from their sums. The seed makes it the same every time.
 */
export function bootstrapped<S extends Sample>(
  scored: readonly Scored<S>[],
  { together = ({ id }) => id, sums, values }: FromSums<S>,
  { seed = 0 } = {},
): Metric[] {
  const places = new Map<string, number>();
  const groups = [...grouped(scored, ({ sample }) => together(sample)).values()].map((group) => {
    const added: [place: number, amount: number][] = [];
    sums(group, (name, amount) => {
      const place = places.get(name) ?? places.size;
      places.set(name, place);
      added.push([place, amount]);
    });
    return added;
  });
  const totals = new Float64Array(places.size);
  const reader = (name: string): number => totals[places.get(name) ?? -1] ?? 0;
  const of = (chosen: (i: number) => number): Values => {
    totals.fill(0);
    for (let i = 0; i < groups.length; i++)
      for (const [place, amount] of groups[chosen(i)] ?? []) totals[place] = (totals[place] ?? 0) + amount;
    return values(reader);
  };
  const found = of((i) => i);
  const drawn = found.map(() => new Float64Array(groups.length > 1 ? draws : 0));
  const random = new Random(seed);
  for (let draw = 0; draw < (groups.length > 1 ? draws : 0); draw++) {
    for (const [i, { value }] of of(() => random.below(groups.length)).entries()) {
      const list = drawn[i];
      if (list) list[draw] = value;
    }
  }
  return found.map((metric, i) => ({ ...metric, interval: interval(drawn[i], metric) }));
}

/** A draw may have no sample of some kind, and so no number. */
function interval(drawn: Float64Array | undefined, { max = 1 }: { readonly max?: number }): Interval {
  const sorted = (drawn ?? new Float64Array()).filter((value) => !Number.isNaN(value)).sort();
  return sorted.length === 0 ? { low: 0, high: max } : { low: quantile(sorted, 0.025), high: quantile(sorted, 0.975) };
}

/** Items by their key, in the order in which the keys appear. */
export function grouped<Item>(items: readonly Item[], key: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const name = key(item);
    const others = groups.get(name);
    if (others) others.push(item);
    else groups.set(name, [item]);
  }
  return groups;
}

/** How the means of two runs differ on the same samples. */
export interface PairedDifference {
  /** The second's mean less the first's. */
  readonly difference: number;
  readonly interval: Interval;
  /** The chance of a difference at least as large when both are equally good. */
  readonly pValue: number;
}

/** The paired bootstrap of two runs, whose scores stand in the order of the same samples; for scores between right and wrong, where McNemar's test does not fit. */
export function pairedBootstrap(first: readonly number[], second: readonly number[], { seed = 0, rounds = 10_000 } = {}): PairedDifference {
  const differences = Float64Array.from(first, (score, i) => (second[i] ?? 0) - score);
  const n = differences.length;
  const mean = differences.reduce((sum, one) => sum + one, 0) / Math.max(1, n);
  if (n === 0) return { difference: 0, interval: { low: -1, high: 1 }, pValue: 1 };
  const random = new Random(seed);
  const means = new Float64Array(rounds);
  for (let round = 0; round < rounds; round++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += differences[random.below(n)] ?? 0;
    means[round] = sum / n;
  }
  // Under the null hypothesis the means lie around 0 as they now lie around the difference (Efron and Tibshirani 1993, chapter 16).
  const asFar = means.reduce((count, one) => count + (Math.abs(one - mean) >= Math.abs(mean) - 1e-12 ? 1 : 0), 0);
  means.sort();
  return { difference: mean, interval: { low: quantile(means, 0.025), high: quantile(means, 0.975) }, pValue: (asFar + 1) / (rounds + 1) };
}
