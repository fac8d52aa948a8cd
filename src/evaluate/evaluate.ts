import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, DataError } from '../errors.ts';
import type { ChatModel, GenerateOptions } from '../generate/generate.ts';
import { type Log, silent } from '../log.ts';
import { pick } from '../model/registry.ts';
import { contentParts, type Message } from '../processor/message.ts';
import { version } from '../version.ts';
import { majorityBaseline, questionOnlyBaseline, scoreBaseline } from './baseline.ts';
import { customTask, isTaskFile, tryTask } from './custom/custom-task.ts';
import { sha256 } from './file-hash.ts';
import type { Judge, JudgeIdentity } from './judge/judge.ts';
import { judgeScored } from './judge/judge-scored.ts';
import { answerLosses } from './likelihood.ts';
import { detectableDifference } from './power.ts';
import { letters } from './prompts.ts';
import { SamplesFile } from './samples-file.ts';
import { type Benchmark, inProfile, type Metric, type Profile, type Sample, type Scored, type Task } from './task.ts';
import { aliases } from './tasks/aliases.ts';
import { tasks as everyTask } from './tasks/index.ts';

/** What to evaluate on, and where the results go. */
export interface EvaluateOptions {
  /** Names, files of tasks of your own (YAML or TypeScript), or such tasks themselves. */
  readonly tasks: readonly (string | Task)[];
  /** The folder that holds the tasks' files, each under its name or by itself. */
  readonly data: string;
  /** Whose prompts, settings and scorers are followed; the benchmarks' own unless said. */
  readonly profile?: Profile | undefined;
  /** Who says what answers are worth, for tasks that are judged; none unless given. */
  readonly judge?: Judge | undefined;
  /** The tasks' files when they are open already, by `openTasks`. */
  readonly opened?: readonly OpenedTask[] | undefined;
  /** Answers that grow together; it changes the speed, not the answers. */
  readonly batchSize?: number | undefined;
  /** The first so many samples of each task. */
  readonly limit?: number | undefined;
  /** Folder for `results.json` and `samples_<task>.jsonl`. */
  readonly out?: string | undefined;
  readonly log?: Log | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What one task gave. */
export interface TaskResult {
  readonly metrics: readonly Metric[];
  /** What answering without the image gives on the same samples, by baseline; none where the task has no training samples. */
  readonly baselines: Readonly<Record<string, readonly Metric[]>>;
  readonly samples: number;
  /** Samples that could not be asked, say for an unreadable image; they score 0. */
  readonly failures: number;
  /** Why the first of them failed. */
  readonly firstFailure?: string;
  readonly seconds: number;
  readonly maxNewTokens: number;
  readonly stop?: readonly string[];
  /** Who judged, for tasks that were judged. */
  readonly judge?: JudgeIdentity;
  /** Why there are no metrics. */
  readonly unscored?: string;
  /** Answers that the scorer could not read. */
  readonly unparsed?: number;
  /** What was counted beside the scores. */
  readonly counts?: Readonly<Record<string, number>>;
  /** The smallest difference of two models' mean scores that this many questions show in four of five runs. */
  readonly detectableDifference?: number;
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
  readonly settings: {
    readonly batchSize: number;
    readonly limit?: number;
    readonly dtype: string;
    readonly device: string;
    readonly template: string;
    readonly profile: Profile;
  };
  readonly tasks: Readonly<Record<string, TaskResult>>;
}

/** Asks every sample and gives it out as soon as it is scored; one that cannot be asked has its error and scores 0. */
export async function* answerSamples<S extends Sample>(
  model: ChatModel,
  task: Task<S>,
  samples: readonly S[],
  { batchSize = 8, signal }: { batchSize?: number; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<{ index: number; scored: Scored<S> }, void> {
  if (task.choices) return yield* likeliestAnswers(model, task, samples, signal);
  for await (const outcome of model.answers(requests(task, samples), { slots: batchSize, ...(signal && { signal }) })) {
    const { index } = outcome;
    const sample = samples[index];
    if (!sample) continue;
    if ('error' in outcome) yield { index, scored: { sample, parsed: '', score: 0, error: outcome.error.message } };
    else yield { index, scored: { sample, answer: outcome.answer.text, ...task.score(sample, outcome.answer.text) } };
  }
}

/** The letters of the likeliest choices, one sample after the other. */
async function* likeliestAnswers<S extends Sample>(
  model: ChatModel,
  task: Task<S>,
  samples: readonly S[],
  signal: AbortSignal | undefined,
): AsyncGenerator<{ index: number; scored: Scored<S> }, void> {
  for (const [index, sample] of samples.entries()) {
    signal?.throwIfAborted();
    try {
      const losses = await answerLosses(model, task.prompt(sample), task.choices?.(sample) ?? []);
      const answer = letters[losses.indexOf(Math.min(...losses))] ?? '';
      yield { index, scored: { sample, answer, ...task.score(sample, answer) } };
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      yield { index, scored: { sample, parsed: '', score: 0, error: error.message } };
    }
  }
}

function* requests<S extends Sample>(task: Task<S>, samples: readonly S[]): Generator<GenerateOptions> {
  const { maxNewTokens, stop } = task;
  for (const sample of samples) yield { messages: task.prompt(sample), maxNewTokens, stop };
}

/** A task as the profile has it, with its samples. */
export interface OpenedTask {
  readonly task: Task;
  readonly benchmark: Benchmark;
}

/** Reads the files of the tasks, all before anything is asked. Throws ConfigError for an unknown task, DataError for files that are missing. */
export async function openTasks({
  tasks,
  data,
  profile = 'official',
}: Pick<EvaluateOptions, 'tasks' | 'data' | 'profile'>): Promise<OpenedTask[]> {
  if (tasks.length === 0) throw new ConfigError('no tasks to evaluate on', { hint: `known: ${Object.keys(everyTask).join(', ')}` });
  const opened: OpenedTask[] = [];
  for (const name of new Set(tasks)) {
    const task = await taskOf(name);
    // Two names of one task are one task.
    if (opened.some((other) => other.task.name === task.name)) continue;
    const benchmark = await task.open(data);
    if (typeof name === 'string' && isTaskFile(name)) tryTask(task, benchmark, name);
    opened.push({ task: inProfile(task, profile), benchmark });
  }
  return opened;
}

/** A task by its name here or in another harness, or by its file. Throws ConfigError. */
export async function taskOf(wanted: string | Task): Promise<Task> {
  if (typeof wanted !== 'string') return wanted;
  return isTaskFile(wanted) ? customTask(wanted) : pick<Task>(everyTask, 'task', aliases[wanted] ?? wanted);
}

/**
 * Asks a model the questions of the tasks and scores its answers. All files are read before the first question is asked; with `out` each
 * sample is written as it is answered. Throws ConfigError, DataError, or the signal's reason.
 */
export async function evaluate(model: ChatModel, options: EvaluateOptions): Promise<Results> {
  const { batchSize = 8, limit, out, log = silent, profile = 'official' } = options;
  const opened = options.opened ?? (await openTasks(options));
  if (out !== undefined) {
    await mkdir(out, { recursive: true });
    // An earlier run's results would not be those of the samples that are written now.
    await rm(join(out, 'results.json'), { force: true });
  }
  // A judge that does not answer is found out before hours of questions.
  if (options.judge && opened.some(({ task }) => task.judge)) await options.judge.check();
  const results: Record<string, TaskResult> = {};
  for (const { task, benchmark } of opened) {
    results[task.name] = await run(model, task, benchmark, { ...options, batchSize });
    log({ event: 'evaluated', task: task.name, ...results[task.name] });
  }
  const { dtype, device } = model.model.languageModel.headWeight;
  const settings = { batchSize, ...(limit !== undefined && { limit }), dtype, device, template: model.processor.template.source, profile };
  const whole: Results = { version, settings, tasks: results };
  if (out !== undefined) await writeWhole(join(out, 'results.json'), `${JSON.stringify(whole, null, 2)}\n`);
  return whole;
}

async function run(
  model: ChatModel,
  task: Task,
  benchmark: Benchmark,
  options: EvaluateOptions & { batchSize: number },
): Promise<TaskResult> {
  const { limit, out, log = silent, batchSize, signal } = options;
  const samples = benchmark.samples.slice(0, limit);
  log({ event: 'evaluating', task: task.name, samples: samples.length });
  const file = out === undefined ? undefined : await SamplesFile.create(join(out, `samples_${task.name}.jsonl`));
  let scored: Scored[] = new Array(samples.length);
  const start = performance.now();
  let [done, total] = [0, 0];
  try {
    for await (const one of answerSamples(model, task, samples, { batchSize, signal })) {
      scored[one.index] = one.scored;
      await file?.write(one.index, one.scored);
      done += 1;
      total += one.scored.score;
      log({ event: 'answered', task: task.name, done, samples: samples.length, meanScore: total / done });
    }
  } finally {
    await file?.close();
  }
  const judge = task.judge && options.judge;
  if (judge) {
    scored = await judgeScored(task, scored, judge, { log, signal });
    if (out !== undefined) await SamplesFile.rewrite(join(out, `samples_${task.name}.jsonl`), scored);
  }
  if (out !== undefined && task.submission)
    await writeWhole(join(out, `submission_${task.name}.json`), `${JSON.stringify(task.submission(scored, benchmark))}\n`);
  const errors = scored.flatMap(({ error }) => error ?? []);
  const unscored = whyUnscored(task, scored, judge !== undefined);
  return {
    metrics: unscored === undefined ? task.aggregate(scored) : [],
    ...(unscored !== undefined && { unscored }),
    ...(judge && { judge: judge.identity }),
    baselines: baselines(task, samples, benchmark.train),
    samples: samples.length,
    failures: errors.length,
    ...(errors[0] !== undefined && { firstFailure: errors[0] }),
    seconds: (performance.now() - start) / 1000,
    maxNewTokens: task.maxNewTokens,
    ...(task.stop && { stop: task.stop }),
    ...(unscored === undefined && facts(task, scored)),
    ...(samples[0] && { firstPrompt: promptText(task.prompt(samples[0])) }),
    ...(benchmark.layout !== undefined && { layout: benchmark.layout }),
    dataSha256: await sha256(benchmark.files),
  };
}

/** Why a task has no scores: it needs a judge, or its truth is not public. */
export function whyUnscored(task: Task, scored: readonly Scored[], judged: boolean): string | undefined {
  if (task.needsJudge && !judged) {
    return `${task.name} needs a judge (usually ${task.judge?.usual}): name one with --judge MODEL, and a server of your own with --judge-url`;
  }
  const hidden = scored.length > 0 && scored.every(({ sample }) => sample.targets.length === 0) && !judged;
  return hidden ? `the truth of this split of ${task.name} is not public: send the submission to the benchmark's server` : undefined;
}

/** What is known of the scores beside their means. */
export function facts(task: Task, scored: readonly Scored[]): Pick<TaskResult, 'unparsed' | 'counts' | 'detectableDifference'> {
  const unparsed = scored.filter((one) => one.unparsed).length;
  const counts = task.counts?.(scored);
  const least = detectableDifference(scored.map(({ score }) => score));
  return { ...(unparsed > 0 && { unparsed }), ...(counts && { counts }), ...(least !== undefined && { detectableDifference: least }) };
}

const promptText = (messages: readonly Message[]): string =>
  messages.flatMap((message) => contentParts(message).map((part) => (part.type === 'text' ? part.text : '<image>'))).join('\n');

function baselines(task: Task, samples: readonly Sample[], train: readonly Sample[] | undefined): TaskResult['baselines'] {
  if (train === undefined) return {};
  return {
    majority: scoreBaseline(task, samples, majorityBaseline(train)),
    'question only': scoreBaseline(task, samples, questionOnlyBaseline(train)),
  };
}

async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.part`, text);
  await rename(`${path}.part`, path);
}
