import { join, resolve } from 'node:path';
import { versions } from 'node:process';
import { writeWhole } from '../flush.ts';
import { lockFolder } from '../folder-lock.ts';
import type { ChatModel } from '../generate/generate.ts';
import { type Log, silent } from '../log.ts';
import { version } from '../version.ts';
import { answerSamples, promptText, respondentOf, scoredResponse } from './answer-samples.ts';
import { majorityBaseline, questionOnlyBaseline, scoreBaseline } from './baseline.ts';
import { type Facts, facts, whyUnscored } from './facts.ts';
import { namingPlaces } from './image-places.ts';
import type { Judge, JudgeIdentity } from './judge/judge.ts';
import { judgeScored } from './judge/judge-scored.ts';
import { type OpenedTask, openTasks, type WantedTasks } from './open-tasks.ts';
import type { Respondent } from './respondent/respondent.ts';
import { openRunFolder, taskFacts } from './run-folder.ts';
import { SamplesFile } from './samples-file.ts';
import { submissionContent } from './submission.ts';
import type { Benchmark, Metric, Profile, Sample, Scored, Task } from './task.ts';

/** What to evaluate on, and where the results go. */
export interface EvaluateOptions extends WantedTasks {
  /** Who says what answers are worth, for tasks that are judged; none unless given. */
  readonly judge?: Judge | undefined;
  /** The tasks' files when they are open already, by `openTasks`. */
  readonly opened?: readonly OpenedTask[] | undefined;
  /** Answers that grow together; it changes the speed, not the answers. */
  readonly batchSize?: number | undefined;
  /** What the model is called in the results; it is known by its weights. */
  readonly modelName?: string | undefined;
  /** The first so many samples of each task. */
  readonly limit?: number | undefined;
  /** Folder for `results.json`, `samples_<task>.jsonl` and what else a run leaves. */
  readonly out?: string | undefined;
  /** Goes on with the run that was left in `out`. */
  readonly resume?: boolean | undefined;
  readonly log?: Log | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What one task gave. */
export interface TaskResult extends Facts {
  readonly metrics: readonly Metric[];
  /** What answering without the image gives on the same samples, by baseline; none where the task has no training samples. */
  readonly baselines: Readonly<Record<string, readonly Metric[]>>;
  readonly samples: number;
  /** Samples that could not be asked, say for an unreadable image, or judged; they score 0. */
  readonly failures: number;
  /** Why the first of them failed. */
  readonly firstFailure?: string;
  /** What asking took this time; in `timings.json` and not in `results.json`, which is the same for equal runs. */
  readonly seconds?: number;
  /** Answers without a word, such as of a model whose thoughts took all tokens. */
  readonly empty?: number;
  readonly maxNewTokens: number;
  readonly stop?: readonly string[];
  /** Who judged, for tasks that were judged. */
  readonly judge?: JudgeIdentity;
  /** The text of the first question as the model is asked it, before the chat template. */
  readonly firstPrompt?: string;
  /** Whose form the files were read in. */
  readonly layout?: string;
  /** SHA-256 of the files with questions and answers. */
  readonly dataSha256: string;
}

/** The content of `results.json`. */
export interface Results {
  readonly version: string;
  /** The version of Node. */
  readonly node: string;
  /** How it was asked, and who. */
  readonly settings: {
    readonly batchSize: number;
    readonly limit?: number;
    readonly profile: Profile;
    /** Who was asked, such as dtype, device and template of a model here. */
    readonly [fact: string]: string | number;
  };
  readonly tasks: Readonly<Record<string, TaskResult>>;
}

/**
 * Asks a model the questions of the tasks and scores its answers. All files are read before the first question is asked; with `out` each
 * sample is written as it is answered, so that a run that ended at any moment can go on by `resume`; no other evaluation can write there meanwhile. Throws ConfigError, DataError, or the signal's reason.
 */
export async function evaluate(model: ChatModel | Respondent, options: EvaluateOptions): Promise<Results> {
  const { batchSize = 8, limit, modelName, out, log = silent, profile = 'official', resume = false } = options;
  const opened = options.opened ?? (await openTasks(options));
  const respondent = respondentOf(model);
  const data: Record<string, string> = {};
  const facts = await Promise.all(opened.map(async (one) => [one.task.name, await taskFacts(one, limit)] as const));
  for (const [name, { data: sha256 }] of facts) data[name] = sha256;
  await check(respondent, opened, options);
  const asked = { ...(limit !== undefined && { limit }), profile };
  // A judge that does not answer is found out before hours of questions.
  if (options.judge && opened.some(({ task }) => task.judge)) await options.judge.check(options.signal);
  using _taken = out === undefined ? undefined : lockFolder(out, { work: 'evaluation' });
  const settings = { ...asked, ...respondent.identity };
  if (out !== undefined) await openRunFolder(out, { version, settings, tasks: Object.fromEntries(facts) }, resume);
  const results: Record<string, TaskResult> = {};
  const timings: Record<string, Timing> = {};
  for (const { task, benchmark } of opened) {
    const { timing, ...result } = await run(respondent, task, benchmark, { ...options, batchSize });
    results[task.name] = { ...result, dataSha256: data[task.name] ?? '' };
    timings[task.name] = timing;
    log({ event: 'evaluated', task: task.name, ...results[task.name] });
  }
  // A server may have answered under further names.
  const whole: Results = {
    version,
    node: versions.node,
    settings: { batchSize, ...(modelName !== undefined && { model: modelName }), ...asked, ...respondent.identity },
    tasks: results,
  };
  if (out !== undefined) {
    await writeWhole(join(out, 'timings.json'), `${JSON.stringify({ batchSize, data: resolve(options.data), tasks: timings }, null, 2)}\n`);
    await writeWhole(join(out, 'results.json'), `${JSON.stringify(withoutTimes(whole), null, 2)}\n`);
  }
  return whole;
}

/** How long the questions took that were asked this time; those that an earlier run had answered do not count. */
interface Timing {
  readonly asked: number;
  readonly seconds: number;
}

/** Results as they are written. */
export function withoutTimes(results: Results): Results {
  const timeless = ({ seconds: _, ...result }: TaskResult): TaskResult => result;
  return { ...results, tasks: Object.fromEntries(Object.entries(results.tasks).map(([name, result]) => [name, timeless(result)])) };
}

async function check(respondent: Respondent, opened: readonly OpenedTask[], { limit, signal }: EvaluateOptions): Promise<void> {
  for (const weigh of [false, true]) {
    const alike = opened.filter(({ task }) => (task.choices !== undefined) === weigh);
    const images = alike.some(({ benchmark }) => benchmark.samples.slice(0, limit).some((sample) => sample.images.length > 0));
    if (alike.length > 0) await respondent.check?.({ images, weigh }, signal);
  }
}

async function run(
  respondent: Respondent,
  task: Task,
  benchmark: Benchmark,
  options: EvaluateOptions & { batchSize: number },
): Promise<Omit<TaskResult, 'dataSha256'> & { timing: Timing }> {
  const { data, limit, out, log = silent, batchSize, signal } = options;
  const samples = benchmark.samples.slice(0, limit);
  const { file, answers } = out === undefined ? unkept : await SamplesFile.resume(join(out, `samples_${task.name}.jsonl`), { data });
  let scored: Scored[] = new Array(samples.length);
  let total = 0;
  for (const [index, answer] of answers) {
    const sample = samples[index];
    if (!sample) continue;
    scored[index] = scoredResponse(task, sample, { answer });
    total += scored[index].score;
  }
  log({ event: 'evaluating', task: task.name, samples: samples.length, known: answers.size });
  const start = performance.now();
  let done = answers.size;
  try {
    for await (const one of answerSamples(respondent, task, samples, { batchSize, known: answers, signal })) {
      const { error, ...rest } = one.scored;
      const kept = error === undefined ? rest : { ...rest, error: namingPlaces(error, rest.sample.images, data) };
      scored[one.index] = kept;
      await file?.write(one.index, kept);
      done += 1;
      total += kept.score;
      log({ event: 'answered', task: task.name, done, samples: samples.length, meanScore: total / done });
    }
  } finally {
    await file?.close();
  }
  const seconds = (performance.now() - start) / 1000;
  const judge = task.judge && options.judge;
  if (judge) {
    scored = await judgeScored(task, scored, judge, { log, signal });
    if (out !== undefined) await SamplesFile.rewrite(join(out, `samples_${task.name}.jsonl`), scored, { data });
  }
  if (out !== undefined && task.submission) {
    const { submissionForm: form = 'json' } = task;
    await writeWhole(join(out, `submission_${task.name}.${form}`), await submissionContent(task.submission(scored, benchmark), form));
  }
  const errors = scored.flatMap(({ error }) => error ?? []);
  const empty = scored.filter(({ answer }) => answer === '').length;
  const unscored = whyUnscored(task, scored, judge !== undefined);
  return {
    metrics: unscored === undefined ? task.aggregate(scored) : [],
    ...(judge && { judge: judge.identity }),
    baselines: baselines(task, samples, benchmark.train),
    samples: samples.length,
    failures: errors.length,
    ...(errors[0] !== undefined && { firstFailure: errors[0] }),
    ...(empty > 0 && { empty }),
    // A run that went on knows nothing of the time before.
    ...(answers.size === 0 && { seconds }),
    timing: { asked: samples.length - answers.size, seconds },
    maxNewTokens: task.maxNewTokens,
    ...(task.stop && { stop: task.stop }),
    ...facts(task, scored, unscored),
    ...(samples[0] && { firstPrompt: promptText(task.prompt(samples[0])) }),
    ...(benchmark.layout !== undefined && { layout: benchmark.layout }),
  };
}

/** What a run without a folder has of an earlier one. */
const unkept: { file: SamplesFile | undefined; answers: ReadonlyMap<number, string> } = { file: undefined, answers: new Map() };

function baselines(task: Task, samples: readonly Sample[], train: readonly Sample[] | undefined): TaskResult['baselines'] {
  if (train === undefined) return {};
  return {
    majority: scoreBaseline(task, samples, majorityBaseline(train)),
    'question only': scoreBaseline(task, samples, questionOnlyBaseline(train)),
  };
}
