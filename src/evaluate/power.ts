/** Standard normal quantiles: 97.5 % for a two-sided test at 5 %, 80 % for the power. */
const [zTest, zPower] = [1.959963984540054, 0.8416212335729143];

/** The correlation between two models' scores on the same question that is taken where only one run is known. */
const usualCorrelation = 0.5;

/**
 * The smallest true difference between two models that a benchmark of these scores (each 0 to 1) shows in four of five runs, at 5 % two-sided, paired by
 * question. Undefined for fewer than two samples. The variance is the scores' own; Miller 2024, arXiv:2411.00640, section 5.
 */
export function detectableDifference(scores: readonly number[], { correlation = usualCorrelation } = {}): number | undefined {
  const n = scores.length;
  if (n < 2) return undefined;
  const mean = scores.reduce((sum, score) => sum + score, 0) / n;
  const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / (n - 1);
  return (zTest + zPower) * Math.sqrt((2 * variance * (1 - correlation)) / n);
}
