import { DataError } from '../errors.ts';
import type { Log } from '../log.ts';
import { version } from '../version.ts';
import { type AnswerRow, answersNothing, matchAnswers, readAnswers } from './answers-file.ts';
import { type Facts, facts, whyUnscored } from './facts.ts';
import { sha256 } from './file-hash.ts';
import type { Judge, JudgeIdentity } from './judge/judge.ts';
import { judgeScored } from './judge/judge-scored.ts';
import { taskOf } from './open-tasks.ts';
import { type Benchmark, inProfile, type Metric, type Profile, type Scored, type Task } from './task.ts';

/** Which answers are scored, and how. */
export interface ScoreOptions {
  /** The file with the answers. */
  readonly answers: string;
  /** The folder that holds the task's files. */
  readonly data: string;
  readonly profile?: Profile | undefined;
  /** Who says what answers are worth, for tasks that are judged; none unless given. */
  readonly judge?: Judge | undefined;
  readonly log?: Log | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What the answers in a file are worth. */
export interface ScoreResult extends Facts {
  readonly task: string;
  readonly profile: Profile;
  /** The numbers by name, in the benchmark's own unit. */
  readonly scores: Readonly<Record<string, number>>;
  /** The same numbers with intervals and what they were counted from. */
  readonly metrics: readonly Metric[];
  /** Questions, those without an answer in the file (scored wrong), and answers that the scorer could not read. */
  readonly questions: number;
  readonly missing: number;
  readonly unparsed: number;
  /** Answers that the judge did not grade (scored wrong), and why not the first of them. */
  readonly failures?: number;
  readonly firstFailure?: string;
  /** Whose form the questions were read in. */
  readonly layout?: string;
  /** SHA-256 of the files with questions and truth. */
  readonly dataSha256?: string;
  readonly judge?: JudgeIdentity;
  /** What the benchmark's server takes, where it takes something. */
  readonly submission?: unknown;
  readonly version: string;
}

/** Scores answers that exist. Throws UsageError for an unknown task, DataError for files that do not fit. */
export async function scoreAnswers(wanted: string | Task, options: ScoreOptions): Promise<ScoreResult> {
  const { answers, profile = 'official', judge, log, signal } = options;
  const task = inProfile(await taskOf(wanted), profile);
  const rows = await readAnswers(answers);
  const { scored, benchmark, graded } = await scoredRows(task, rows, options);
  if (graded || !judge || !task.judge) return { ...(await summary(task, scored, { benchmark, graded })), profile };
  await judge.check(signal);
  const judged = await judgeScored(task, scored, judge, { log, signal });
  return { ...(await summary(task, judged, { benchmark, graded: true })), profile, judge: judge.identity };
}

async function scoredRows(
  task: Task,
  rows: readonly AnswerRow[],
  { answers, data }: ScoreOptions,
): Promise<{ scored: readonly Scored[]; benchmark: Benchmark | undefined; graded: boolean }> {
  if (task.graded) {
    // A judge's file says all that is needed; the questions add what it leaves out.
    const benchmark = await task.open(data, { images: false }).catch(() => undefined);
    const scored = task.graded(rows, benchmark?.samples);
    if (scored) return { scored, benchmark, graded: true };
  }
  const benchmark = await task.open(data, { images: false });
  if (answersNothing(rows))
    throw new DataError(`${answers}: no answers in it`, { hint: 'is it a file of questions, or of grades of another task?' });
  const { pairs } = matchAnswers(benchmark.samples, rows, answers);
  const scored = pairs.map(({ sample, answer }): Scored => {
    if (!answer) return { sample, parsed: '', score: 0, error: `no answer in ${answers}` };
    if (answer.error !== undefined) return { sample, parsed: '', score: 0, error: answer.error };
    return { sample, answer: answer.text, ...task.score(sample, answer.text) };
  });
  return { scored, benchmark, graded: false };
}

/** All that a result says of scored samples. */
async function summary(
  task: Task,
  scored: readonly Scored[],
  { benchmark, graded }: { readonly benchmark: Benchmark | undefined; readonly graded: boolean },
): Promise<Omit<ScoreResult, 'profile'>> {
  const unscored = whyUnscored(task, scored, graded);
  const metrics = unscored === undefined ? task.aggregate(scored) : [];
  const missing = scored.filter(({ answer, error }) => answer === undefined && error !== undefined);
  const failures = scored.flatMap(({ answer, error }) => (answer === undefined ? [] : (error ?? [])));
  return {
    task: task.name,
    scores: Object.fromEntries(metrics.map(({ name, value }) => [name, value])),
    metrics,
    questions: scored.length,
    missing: missing.length,
    unparsed: 0,
    ...(failures[0] !== undefined && { failures: failures.length, firstFailure: failures[0] }),
    ...facts(task, scored, unscored),
    ...(benchmark && task.submission && { submission: task.submission(scored, benchmark) }),
    ...(benchmark && { layout: benchmark.layout ?? task.name, dataSha256: await sha256(benchmark.files) }),
    version,
  };
}
