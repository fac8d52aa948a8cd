import { effectiveSize } from './effective-size.ts';
import { normalQuantile } from './interval.ts';

/** The standard normal's quantile of 80 %, for the power. */
const powerQuantile = 0.8416212335729143;

/** How scores are known to depend on each other. */
interface Dependence {
  /** What each score belongs to, such as its image; every one stands alone unless given. */
  readonly together?: readonly string[];
  /** Of two models' scores on the same question; what is usual unless both runs are known. */
  readonly correlation?: number;
}

/**
 * The smallest true difference between two models that a benchmark of these scores (each 0 to 1) shows in four of five runs, at 5 % two-sided, paired by
 * question. 1, which nothing is beyond, where it shows none. Undefined for fewer than two samples, and
 * where all belong together. The variance is the scores' own; Miller 2024, arXiv:2411.00640, section 5.
 */
export function detectableDifference(scores: readonly number[], { together, correlation = 0.5 }: Dependence = {}): number | undefined {
  const n = scores.length;
  const worth = effectiveSize(scores, together ?? scores.map((_, i) => String(i)));
  if (n < 2 || worth === 0) return undefined;
  const mean = scores.reduce((sum, score) => sum + score, 0) / n;
  const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / (n - 1);
  return Math.min(1, (normalQuantile + powerQuantile) * Math.sqrt((2 * variance * (1 - correlation)) / worth));
}
