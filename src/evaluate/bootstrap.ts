import { Random } from '../data/random.ts';
import { type Interval, wilson } from './interval.ts';
import { imageOf, type Metric, type Sample, type Scored } from './task.ts';

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
  /** What belongs together; the questions about one image unless given. */
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
  { together = imageOf, sums, values }: FromSums<S>,
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
  const groupsEach = groups.length / Math.max(1, scored.length);
  return found.map((metric, i) => ({ ...metric, interval: interval(drawn[i], metric, metric.count * groupsEach) }));
}

/** A draw may have no sample of some kind, and so no number. Where all that was seen is at an end of the scale, so are all draws, and Wilson's interval says more. */
function interval(drawn: Float64Array | undefined, { value, max = 1 }: Values[number], groups: number): Interval {
  const sorted = (drawn ?? new Float64Array()).filter((one) => !Number.isNaN(one)).sort();
  if (sorted.length === 0) return { low: 0, high: max };
  const found = { low: quantile(sorted, 0.025), high: quantile(sorted, 0.975) };
  if (found.low < found.high || (value !== 0 && value !== max)) return found;
  const { low, high } = wilson(value === 0 ? 0 : groups, groups);
  return { low: low * max, high: high * max };
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

/** How the scores of two runs are compared. */
interface PairedOptions {
  /** What belongs together of each sample, such as its image; every sample stands alone unless given. */
  readonly together?: readonly string[] | undefined;
  readonly seed?: number;
  readonly rounds?: number;
}

/**
 * How two runs differ, whose scores stand in the order of the same samples: the interval by the paired bootstrap over what belongs together, the p-value by turning
 * the two runs of each such group around at random, which is as likely as not when both are equally good (Fisher 1935, section 21). One group says nothing. Where
 * none differs the interval is that of the score test (Tango 1998), as the bootstrap then has none.
 */
export function pairedBootstrap(
  first: readonly number[],
  second: readonly number[],
  { together, seed = 0, rounds = 10_000 }: PairedOptions = {},
): PairedDifference {
  const groups = [...grouped([...first.keys()], (i) => together?.[i] ?? `#${i}`).values()];
  const sums = Float64Array.from(groups, (group) => group.reduce((sum, i) => sum + (second[i] ?? 0) - (first[i] ?? 0), 0));
  const counts = Float64Array.from(groups, ({ length }) => length);
  const total = sums.reduce((sum, one) => sum + one, 0);
  const difference = total / Math.max(1, first.length);
  if (groups.length < 2) return { difference, interval: { low: -1, high: 1 }, pValue: 1 };
  const random = new Random(seed);
  const means = new Float64Array(rounds);
  for (let round = 0; round < rounds; round++) {
    let [sum, count] = [0, 0];
    for (let i = 0; i < groups.length; i++) {
      const drawn = random.below(groups.length);
      sum += sums[drawn] ?? 0;
      count += counts[drawn] ?? 0;
    }
    means[round] = sum / count;
  }
  const uneven = sums.filter((sum) => sum !== 0);
  const alike = uneven.length === 0 ? wilson(0, groups.length).high : 0;
  let asFar = 0;
  for (let round = 0; round < rounds; round++) {
    let turned = 0;
    for (const sum of uneven) turned += random.below(2) === 0 ? sum : -sum;
    if (Math.abs(turned) >= Math.abs(total) - 1e-9) asFar += 1;
  }
  means.sort();
  return {
    difference,
    interval: { low: quantile(means, 0.025) - alike, high: quantile(means, 0.975) + alike },
    pValue: (asFar + 1) / (rounds + 1),
  };
}
