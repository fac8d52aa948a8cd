import { DataError } from '../../errors.ts';
import { type Log, silent } from '../../log.ts';
import type { Sample, Scored, Task, Verdict } from '../task.ts';
import type { Judge } from './judge.ts';
import type { JudgeQuestion } from './question.ts';

/**
 * The samples with the judge's verdicts in the place of the task's own; what has no answer stays as it is, and an answer that the judge does not take is a
 * failure. Throws ConfigError when the judge takes none, or the signal's reason.
 */
export async function judgeScored<S extends Sample>(
  { name, judge: question }: Pick<Task<S>, 'name' | 'judge'>,
  scored: readonly Scored<S>[],
  judge: Judge,
  { log = silent, signal }: { readonly log?: Log | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<Scored<S>[]> {
  if (!question) return [...scored];
  const judged = [...scored];
  const over = new AbortController();
  const running = AbortSignal.any(signal ? [signal, over.signal] : [over.signal]);
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    while (next < scored.length) {
      running.throwIfAborted();
      const i = next++;
      const one = scored[i];
      if (one?.answer === undefined) continue;
      // What the task's own scorer could not read says nothing of the judge.
      const { unparsed: _, ...rest } = one;
      judged[i] = { ...rest, ...(await verdictOf(question, one.sample, one.answer, judge, running)) };
      done += 1;
      log({ event: 'judged', task: name, done, samples: scored.length });
    }
  };
  const workers = Array.from({ length: Math.min(judge.parallel, scored.length) }, work);
  try {
    await Promise.all(workers);
  } finally {
    over.abort();
    await Promise.allSettled(workers);
  }
  return judged;
}

async function verdictOf<S extends Sample>(
  question: JudgeQuestion<S>,
  sample: S,
  answer: string,
  judge: Judge,
  signal: AbortSignal,
): Promise<Verdict & { readonly error?: string }> {
  try {
    for (let attempt = 0; attempt < question.attempts; attempt++) {
      const found = question.verdict(sample, await judge.reply(question.call(sample, answer, attempt), signal));
      if (found) return found;
    }
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    return { parsed: '', score: 0, error: `the judge does not grade it: ${error.message}` };
  }
  return { ...question.giveUp(sample), unparsed: true };
}
