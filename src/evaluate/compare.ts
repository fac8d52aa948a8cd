import { DataError } from '../errors.ts';
import { type PairedDifference, pairedBootstrap } from './bootstrap.ts';
import type { Results } from './evaluate.ts';
import { mcnemar, type Paired } from './interval.ts';
import { imageOf, type Scored, type Task } from './task.ts';
import { tasks } from './tasks/index.ts';

/** How the second of two runs on the same samples differs from the first. */
export interface Comparison {
  readonly samples: number;
  /** Of the mean scores, with an interval and a p-value that know which questions are about one image. */
  readonly mean: PairedDifference;
  /** McNemar's test, where every score is right or wrong, and no two questions are about one image. */
  readonly rightOrWrong?: Paired;
  /** The ids of samples that only one run has right, or scores higher. */
  readonly better: readonly string[];
  readonly worse: readonly string[];
}

/** Why runs are not compared on a task: one of them has no scores. A run that is not finished has no results; its samples may still wait for the judge. */
export function whyNotCompared(task: string, runs: readonly (Pick<Results, 'tasks'> | undefined)[]): string | undefined {
  const needsJudge = Object.values<Task>(tasks).find(({ name }) => name === task)?.needsJudge;
  const reasons = runs.map((run) => {
    if (run === undefined) return needsJudge && 'a run is not finished, and its answers may not be judged';
    return run.tasks[task]?.unscored;
  });
  return reasons.find((why) => why !== undefined);
}

/** What beside the model tells two runs apart on a task and may be what makes the difference, a clause each; runs that are not finished say nothing. */
export function unlike(task: string, first: Results | undefined, second: Results | undefined): string[] {
  if (!first || !second) return [];
  const differs = (what: string, fact: (run: Results) => string | undefined): string[] => {
    const [of, against] = [fact(second), fact(first)];
    return of === against || of === undefined || against === undefined ? [] : [`${what} ${of}, not ${against}`];
  };
  const judge = ({ tasks }: Results): string | undefined => {
    const { model, served = [] } = tasks[task]?.judge ?? {};
    return model === undefined ? undefined : [model, ...served.filter((name) => name !== model)].join(' as ');
  };
  return [
    ...differs('profile', ({ settings }) => settings.profile),
    ...differs(`${task} was judged by`, judge),
    ...differs(`${task} was read from files with the SHA-256`, ({ tasks }) => tasks[task]?.dataSha256?.slice(0, 12)),
  ];
}

/** Compares two runs sample by sample. Throws DataError when they are not of the same samples. */
export function compareRuns(first: readonly Scored[], second: readonly Scored[]): Comparison {
  const byId = new Map(second.map((one) => [one.sample.id, one]));
  const pairs = first.map((one) => {
    const other = byId.get(one.sample.id);
    if (!other)
      throw new DataError(`sample ${one.sample.id} is in the first run only`, { hint: 'compare runs of the same task, split and limit' });
    return [one, other] as const;
  });
  if (pairs.length !== byId.size)
    throw new DataError(`the first run has ${pairs.length} samples, the second ${byId.size}`, {
      hint: 'compare runs of the same task, split and limit',
    });
  const [before, after] = [pairs.map(([one]) => one.score), pairs.map(([, other]) => other.score)];
  const together = pairs.map(([{ sample }]) => imageOf(sample));
  const alone = new Set(together).size === pairs.length;
  const binary = [...before, ...after].every((score) => score === 0 || score === 1);
  return {
    samples: pairs.length,
    mean: pairedBootstrap(before, after, { together }),
    ...(alone &&
      binary && {
        rightOrWrong: mcnemar(
          before.map((score) => score === 1),
          after.map((score) => score === 1),
        ),
      }),
    better: pairs.filter(([one, other]) => other.score > one.score).map(([{ sample }]) => sample.id),
    worse: pairs.filter(([one, other]) => other.score < one.score).map(([{ sample }]) => sample.id),
  };
}
