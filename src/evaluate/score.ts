import { grouped } from './bootstrap.ts';
import { effectiveSize } from './effective-size.ts';
import { wilson } from './interval.ts';
import { imageOf, type Metric, type Sample, type Scored, type Verdict } from './task.ts';

/** Right when the answer is one of the targets, but for case and white space around it. */
export function exactMatch({ targets }: Sample, answer: string): Verdict {
  const parsed = answer.trim().toLowerCase();
  return { parsed, score: targets.some((target) => target.trim().toLowerCase() === parsed) ? 1 : 0 };
}

/** Verdict of a comparison. */
export const verdict = (parsed: string, right: boolean): Verdict => ({ parsed, score: right ? 1 : 0 });

/** The verdict on an answer in which nothing was found. */
export const unparsed = (answer: string): Verdict => ({ parsed: answer, score: 0, unparsed: true });

/** The mean of numbers, 0 of none. */
export const average = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

/** The mean score of all samples as `all`, then of each category in the order of their names. */
export function meanByCategory(scored: readonly Scored[]): Metric[] {
  return means(scored, { max: 1, by: [({ category }) => category] });
}

/**
 * The mean score of all samples, then for each of `by` the means of its groups in the order of their names, where there is more than one; a sample without a
 * group is in none. In percent unless `max` says otherwise.
 */
export function means<S extends Sample>(
  scored: readonly Scored<S>[],
  {
    name = 'all',
    max = 100,
    by = [],
  }: { readonly name?: string; readonly max?: number; readonly by?: readonly ((sample: S) => string | undefined)[] } = {},
): Metric[] {
  const parts = by.flatMap((key) => {
    const known = scored.filter(({ sample }) => key(sample) !== undefined);
    const named = [...grouped(known, ({ sample }) => key(sample) ?? '')].sort(([a], [b]) => byName(a, b));
    return named.length > 1 || known.length < scored.length ? named : [];
  });
  return [mean(name, scored, max), ...parts.map(([group, part]) => mean(group, part, max))];
}

/** Names that begin with numbers in the order of these, as in `2 words`, `10 words`; else by their letters. */
const byName = (a: string, b: string): number => Number.parseFloat(a) - Number.parseFloat(b) || (a < b ? -1 : 1);

/**
 * The mean score with the Wilson interval of as many questions as those about shared images are worth. Scores between 0 and 1 vary less than right and wrong do,
 * so that the interval is then on the wide side.
 */
export function mean(name: string, scored: readonly Scored[], max = 1): Metric {
  const total = scored.reduce((sum, { score }) => sum + score, 0);
  const size = effectiveSize(
    scored.map(({ score }) => score),
    scored.map(({ sample }) => imageOf(sample)),
  );
  const worth = size / Math.max(1, scored.length);
  const { low, high } = wilson(total * worth, scored.length * worth);
  const value = scored.length === 0 ? 0 : max === 1 ? total / scored.length : (total / scored.length) * max;
  return { name, value, interval: { low: low * max, high: high * max }, count: scored.length, ...(max !== 1 && { max }) };
}
