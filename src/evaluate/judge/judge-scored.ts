import { type Log, silent } from '../../log.ts';
import type { Sample, Scored, Task, Verdict } from '../task.ts';
import type { Judge } from './judge.ts';
import type { JudgeQuestion } from './question.ts';

/** The samples with the judge's verdicts in the place of the task's own; what has no answer stays as it is. Throws ConfigError, or the signal's reason. */
export async function judgeScored<S extends Sample>(
  { name, judge: question }: Pick<Task<S>, 'name' | 'judge'>,
  scored: readonly Scored<S>[],
  judge: Judge,
  { log = silent, signal }: { readonly log?: Log | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<Scored<S>[]> {
  if (!question) return [...scored];
  const judged = [...scored];
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    while (next < scored.length) {
      const i = next++;
      const one = scored[i];
      if (one?.answer === undefined) continue;
      judged[i] = { ...one, ...(await verdictOf(question, one.sample, one.answer, judge, signal)) };
      done += 1;
      log({ event: 'judged', task: name, done, samples: scored.length });
    }
  };
  await Promise.all(Array.from({ length: Math.min(judge.parallel, scored.length) }, work));
  return judged;
}

async function verdictOf<S extends Sample>(
  question: JudgeQuestion<S>,
  sample: S,
  answer: string,
  judge: Judge,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  for (let attempt = 0; attempt < question.attempts; attempt++) {
    const found = question.verdict(sample, await judge.reply(question.call(sample, answer, attempt), signal));
    if (found) return found;
  }
  return { ...question.giveUp(sample), unparsed: true };
}
