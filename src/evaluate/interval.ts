/** Where a true share lies with 95 % confidence. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** The standard normal's quantile of 97.5 %. */
export const normalQuantile = 1.959963984540054;

/** The 95 % interval of a share by its score test; [0, 1] for no trials. Wilson 1927, doi:10.1080/01621459.1927.10502953. */
export function wilson(successes: number, trials: number): Interval {
  if (trials === 0) return { low: 0, high: 1 };
  const share = successes / trials;
  const shrink = 1 + normalQuantile ** 2 / trials;
  const centre = (share + normalQuantile ** 2 / (2 * trials)) / shrink;
  const half = (normalQuantile / shrink) * Math.sqrt((share * (1 - share)) / trials + normalQuantile ** 2 / (4 * trials ** 2));
  // At the ends the bounds are exact, which rounding would miss.
  return { low: successes === 0 ? 0 : Math.max(0, centre - half), high: successes === trials ? 1 : Math.min(1, centre + half) };
}

/** How two runs differ on the same questions. */
export interface Paired {
  /** Questions that only the first run has right. */
  readonly onlyFirst: number;
  readonly onlySecond: number;
  /** The chance of a split at least as uneven when both runs are equally good. */
  readonly pValue: number;
}

/** McNemar's test of two runs, exact and two-sided; `first[i]` and `second[i]` say who has question i right. McNemar 1947. */
export function mcnemar(first: readonly boolean[], second: readonly boolean[]): Paired {
  const onlyFirst = first.filter((right, i) => right && !second[i]).length;
  const onlySecond = second.filter((right, i) => right && !first[i]).length;
  const trials = onlyFirst + onlySecond;
  return { onlyFirst, onlySecond, pValue: Math.min(1, 2 * fairCoinTail(Math.min(onlyFirst, onlySecond), trials)) };
}

/** The chance of at most `heads` heads in `tosses` tosses. */
function fairCoinTail(heads: number, tosses: number): number {
  let logTerm = -tosses * Math.LN2;
  let tail = Math.exp(logTerm);
  for (let k = 1; k <= heads; k++) {
    // In logarithms, because 2^-tosses is 0 beyond a thousand tosses.
    logTerm += Math.log((tosses - k + 1) / k);
    tail += Math.exp(logTerm);
  }
  return tail;
}
