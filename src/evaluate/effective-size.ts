import { grouped } from './bootstrap.ts';
import { normalQuantile } from './interval.ts';

/**
 * How many questions on their own say as much as these scores, whose questions belong together in groups, say by their images: their number over the design effect,
 * which is the variance of the mean by groups over that by questions, with Student's quantile for as many groups as there are. Their very number where each is a
 * group of its own, and never more; none for a single group. Where all scores are equal, those of a group are taken for one. Kish 1965; Korn and Graubard 1998.
 */
export function effectiveSize(scores: readonly number[], together: readonly string[]): number {
  const size = scores.length;
  const mean = scores.reduce((sum, score) => sum + score, 0) / size;
  const parts = [...grouped([...scores.keys()], (i) => together[i] ?? '').values()];
  if (parts.length === size) return size;
  if (parts.length === 1) return 0;
  const squares = sumOf(scores, (score) => (score - mean) ** 2);
  if (squares === 0) return size ** 2 / sumOf(parts, ({ length }) => length ** 2);
  const apart = sumOf(parts, (part) => sumOf(part, (i) => (scores[i] ?? 0) - mean) ** 2) / squares;
  const effect = (apart * bessel(parts.length)) / bessel(size);
  const few = studentQuantile(size - 1) / studentQuantile(parts.length - 1);
  return (size / Math.max(1, effect)) * few ** 2;
}

const sumOf = <Item>(items: readonly Item[], value: (item: Item) => number): number => items.reduce((sum, item) => sum + value(item), 0);

/** What a sum of squares over so many parts is too small by. */
const bessel = (parts: number): number => parts / (parts - 1);

/** Student's 97.5 % quantile by Fisher and Cornish's expansion, to a hundredth from two degrees of freedom on. Abramowitz and Stegun 1964, 26.7.5. */
function studentQuantile(freedom: number): number {
  return [normalQuantile, 2.372271, 2.82249, 2.555852, 1.589534].reduce((sum, term, power) => sum + term / freedom ** power, 0);
}
