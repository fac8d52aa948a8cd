import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChatModel, GenerateOptions } from '../generate/generate.ts';
import { type Log, silent } from '../log.ts';
import { contentParts, type Message } from '../processor/message.ts';
import { version } from '../version.ts';
import { majorityBaseline, questionOnlyBaseline, scoreBaseline } from './baseline.ts';
import { type Facts, facts, whyUnscored } from './facts.ts';
import { sha256 } from './file-hash.ts';
import type { Judge, JudgeIdentity } from './judge/judge.ts';
import { judgeScored } from './judge/judge-scored.ts';
import { likeliestAnswers } from './likelihood.ts';
import { type OpenedTask, openTasks, type WantedTasks } from './open-tasks.ts';
import { SamplesFile } from './samples-file.ts';
import type { Benchmark, Metric, Profile, Sample, Scored, Task } from './task.ts';

/** What to evaluate on, and where the results go. */
export interface EvaluateOptions extends WantedTasks {
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
export interface TaskResult extends Facts {
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

function* requests<S extends Sample>(task: Task<S>, samples: readonly S[]): Generator<GenerateOptions> {
  const { maxNewTokens, stop } = task;
  for (const sample of samples) yield { messages: task.prompt(sample), maxNewTokens, stop };
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
