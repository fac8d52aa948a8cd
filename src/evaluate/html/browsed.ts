import type { Scored } from '../task.ts';
import type { Run } from './runs.ts';

/** What one run answered, in the short names of the page's script. */
interface BrowsedAnswer {
  /** The answer, or why there is none. */
  readonly a: string;
  /** The part that was compared, where it differs. */
  readonly p?: string;
  /** Why the judge did not grade it. */
  readonly e?: string;
  /** Left out where nobody says what answers are worth. */
  readonly s?: number;
  /** What became of it. */
  readonly v: 'right' | 'partly' | 'wrong' | 'unparsed' | 'failed' | 'unscored';
}

/** One question with the answers of all runs; a run that was not asked has null. */
export interface Browsed {
  readonly t: string;
  readonly id: string;
  readonly q: string;
  readonly truth: readonly string[];
  readonly c: string;
  readonly images: readonly string[];
  readonly runs: readonly (BrowsedAnswer | null)[];
}

/** Questions that a page holds at most. */
const mostBrowsed = 20_000;

/**
 * The questions of all runs for the browser of a page, at most `limit` of them: where there are more, first those that runs differ on, that failed or could not be
 * read, then wrong ones, then right ones, evenly from the whole set. `all` counts them before the cut.
 */
export function browsed(runs: readonly Run[], limit = mostBrowsed): { questions: Browsed[]; all: number } {
  const tasks = [...new Set(runs.flatMap(({ samples }) => Object.keys(samples)))];
  const questions = tasks.flatMap((task) => taskQuestions(task, runs));
  if (questions.length <= limit) return { questions, all: questions.length };
  const groups: [Browsed[], Browsed[], Browsed[]] = [[], [], []];
  for (const question of questions) groups[interest(question)]?.push(question);
  const kept = new Set<Browsed>();
  for (const group of groups) for (const question of evenly(group, limit - kept.size)) kept.add(question);
  return { questions: questions.filter((question) => kept.has(question)), all: questions.length };
}

function taskQuestions(task: string, runs: readonly Run[]): Browsed[] {
  const byRun = runs.map(({ samples }) => new Map((samples[task] ?? []).map((one) => [one.sample.id, one])));
  const isScored = runs.map(({ results }) => results.tasks[task]?.unscored === undefined);
  const ids = [...new Set(byRun.flatMap((known) => [...known.keys()]))];
  return ids.flatMap((id): Browsed[] => {
    const asked = byRun.map((known) => known.get(id));
    const one = asked.find((other) => other !== undefined);
    if (!one) return [];
    const { sample, input } = one;
    const answers = asked.map((other, run) => (other ? browsedAnswer(other, isScored[run] ?? true) : null));
    return [{ t: task, id, q: input ?? sample.question, truth: sample.targets, c: sample.category, images: sample.images, runs: answers }];
  });
}

function browsedAnswer({ answer, parsed, score, error, unparsed }: Scored, isScored: boolean): BrowsedAnswer {
  if (answer === undefined) return { a: error ?? '', ...(isScored && { s: score }), v: 'failed' };
  if (!isScored) return { a: answer, v: 'unscored' };
  if (error !== undefined) return { a: answer, e: error, s: score, v: 'failed' };
  const verdict = unparsed ? 'unparsed' : score >= 1 ? 'right' : score > 0 ? 'partly' : 'wrong';
  return { a: answer, ...(parsed.toLowerCase() !== answer.trim().toLowerCase() && { p: parsed }), s: score, v: verdict };
}

/** 0 for what one looks at first. */
function interest({ runs }: Browsed): 0 | 1 | 2 {
  const asked = runs.filter((one) => one !== null);
  const scores = asked.flatMap(({ s }) => s ?? []);
  const differ = scores.some((score) => score !== scores[0]);
  if (differ || asked.some(({ v }) => v === 'failed' || v === 'unparsed')) return 0;
  return scores.some((score) => score < 1) ? 1 : 2;
}

function evenly<Item>(items: readonly Item[], count: number): Item[] {
  if (items.length <= count) return [...items];
  return Array.from({ length: Math.max(0, count) }, (_, i) => items[Math.floor((i * items.length) / count)]).filter(
    (item) => item !== undefined,
  );
}
