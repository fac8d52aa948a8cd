import { Random } from '../../src/data/random.ts';

/** A kind of row of the data: its images' views, tokens of text, how many of them are supervised, and its share of all rows. */
export interface Row {
  readonly views: number;
  readonly text: number;
  readonly supervised: number;
}
export interface Kind extends Row {
  readonly share: number;
}

/** The quantile of the normal distribution: Newton's steps on its distribution function. */
function normalQuantile(share: number): number {
  let x = 0;
  for (let i = 0; i < 60; i++)
    x -= Math.max(-1, Math.min(1, (normalBelow(x) - share) / (Math.exp(-(x ** 2) / 2) / Math.sqrt(2 * Math.PI))));
  return x;
}

/** Abramowitz and Stegun 26.2.17, to 1e-7. */
function normalBelow(x: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(x));
  const tail =
    (((((1.330274429 * t - 1.821255978) * t + 1.781477937) * t - 0.356563782) * t + 0.31938153) * t * Math.exp(-(x ** 2) / 2)) /
    Math.sqrt(2 * Math.PI);
  return x < 0 ? tail : 1 - tail;
}

/** Rows whose text is spread log-normally around a mean, as quantiles, cut at `most` tokens of text. */
export function spread(
  { views, mean, deviation, supervised, most }: { views: number; mean: number; deviation: number; supervised: number; most: number },
  share = 1,
  quantiles = 40,
): Kind[] {
  const variance = Math.log(1 + (deviation / mean) ** 2);
  return Array.from({ length: quantiles }, (_, i) => {
    const z = normalQuantile((i + 0.5) / quantiles);
    const text = Math.min(most, Math.exp(Math.log(mean) - variance / 2 + z * Math.sqrt(variance)));
    return { share: share / quantiles, views, text, supervised: supervised * text };
  });
}

/** The mean of something over all rows. */
export const meanOf = <Item extends { readonly share: number }>(items: readonly Item[], what: (item: Item) => number): number =>
  items.reduce((sum, item) => sum + item.share * what(item), 0);

/** What a row costs, and how many of all rows do. */
export interface Cost {
  readonly share: number;
  readonly cost: number;
}

const bins = 64;
/** Sums of more rows are spread as those of so many, narrower by the root. */
const folded = 16;

/**
 * How much longer than the mean the slowest of `ranks` takes when each has `rows` independent rows of these costs: the expected maximum of the
 * sums over their mean. The distribution of a sum is that of its rows folded together on a grid.
 */
export function slowest(costs: readonly Cost[], { rows, ranks }: { rows: number; ranks: number }): number {
  if (rows > folded) return 1 + (slowest(costs, { rows: folded, ranks }) - 1) * Math.sqrt(folded / rows);
  const most = Math.max(...costs.map(({ cost }) => cost));
  if (most === 0 || ranks === 1) return 1;
  const one = new Float64Array(bins + 1);
  // A cost between two points is shared among them, so that the mean stays.
  for (const { share, cost } of costs) {
    const at = (cost / most) * bins;
    const below = Math.min(bins - 1, Math.floor(at));
    one[below] = (one[below] ?? 0) + share * (below + 1 - at);
    one[below + 1] = (one[below + 1] ?? 0) + share * (at - below);
  }
  let sums: Float64Array = one;
  for (let row = 1; row < rows; row++) sums = fold(sums, one);
  let [below, expected] = [0, 0];
  for (const [value, share] of sums.entries()) {
    const upTo = Math.min(1, below + share);
    expected += value * (upTo ** ranks - below ** ranks);
    below = upTo;
  }
  return (expected * most) / bins / (meanOf(costs, ({ cost }) => cost) * rows);
}

function fold(a: Float64Array, b: Float64Array): Float64Array {
  const both = new Float64Array(a.length + b.length - 1);
  for (let i = 0; i < a.length; i++) {
    const x = a[i] ?? 0;
    for (let j = 0; j < b.length; j++) both[i + j] = (both[i + j] ?? 0) + x * (b[j] ?? 0);
  }
  return both;
}

/** The same where the rows of a step are shared out by cost, the longest first and each to the rank that has least: the mean over drawn steps. */
export function slowestShared(
  costs: readonly Cost[],
  { rows, ranks, steps = 20 }: { rows: number; ranks: number; steps?: number },
): number {
  const random = new Random(0);
  let total = 0;
  for (let step = 0; step < steps; step++) {
    const drawn = Array.from({ length: rows * ranks }, () => draw(costs, random.next() / 2 ** 32)).sort((a, b) => b - a);
    const sums = new Float64Array(ranks);
    for (const cost of drawn) {
      let least = 0;
      for (let rank = 1; rank < ranks; rank++) if ((sums[rank] ?? 0) < (sums[least] ?? 0)) least = rank;
      sums[least] = (sums[least] ?? 0) + cost;
    }
    total += Math.max(...sums);
  }
  return total / steps / (rows * meanOf(costs, ({ cost }) => cost));
}

function draw(costs: readonly Cost[], at: number): number {
  let below = 0;
  for (const { share, cost } of costs) {
    below += share;
    if (at < below) return cost;
  }
  return costs.at(-1)?.cost ?? 0;
}
