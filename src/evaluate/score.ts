import { wilson } from './interval.ts';
import type { Metric, Sample, Scored, Verdict } from './task.ts';

/** Right when the answer is one of the targets, but for case and white space around it. */
export function exactMatch({ targets }: Sample, answer: string): Verdict {
  const parsed = answer.trim().toLowerCase();
  return { parsed, score: targets.some((target) => target.trim().toLowerCase() === parsed) ? 1 : 0 };
}

/** The mean score of all samples as `all`, then of each category in the order of their names. */
export function meanByCategory(scored: readonly Scored[]): Metric[] {
  const categories = new Map<string, Scored[]>();
  for (const one of scored) {
    const { category } = one.sample;
    const others = categories.get(category);
    if (others) others.push(one);
    else categories.set(category, [one]);
  }
  const named = [...categories].sort(([a], [b]) => (a < b ? -1 : 1));
  return [mean('all', scored), ...(named.length > 1 ? named.map(([name, part]) => mean(name, part)) : [])];
}

function mean(name: string, scored: readonly Scored[]): Metric {
  const total = scored.reduce((sum, { score }) => sum + score, 0);
  return { name, value: scored.length === 0 ? 0 : total / scored.length, interval: wilson(total, scored.length), count: scored.length };
}
