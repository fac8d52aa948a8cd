import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../errors.ts';
import type { ChatModel, GenerateOptions } from '../generate/generate.ts';
import { type Log, silent } from '../log.ts';
import { pick } from '../model/registry.ts';
import { version } from '../version.ts';
import { majorityBaseline, questionOnlyBaseline, scoreBaseline } from './baseline.ts';
import { SamplesFile } from './samples-file.ts';
import type { Benchmark, Metric, Sample, Scored, Task } from './task.ts';
import { tasks as everyTask } from './tasks/index.ts';

/** What to evaluate on, and where the results go. */
export interface EvaluateOptions {
  /** Names, or tasks of your own. */
  readonly tasks: readonly (string | Task)[];
  /** The folder that holds the tasks' files, each under its name or by itself. */
  readonly data: string;
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
  for await (const outcome of model.answers(requests(task, samples), { slots: batchSize, ...(signal && { signal }) })) {
    const { index } = outcome;
    const sample = samples[index];
    if (!sample) continue;
    if ('error' in outcome) yield { index, scored: { sample, parsed: '', score: 0, error: outcome.error.message } };
    else yield { index, scored: { sample, answer: outcome.answer.text, ...task.score(sample, outcome.answer.text) } };
  }
}

function* requests<S extends Sample>(task: Task<S>, samples: readonly S[]): Generator<GenerateOptions> {
  for (const sample of samples) yield { messages: task.prompt(sample), maxNewTokens: task.maxNewTokens };
}

/**
 * Asks a model the questions of the tasks and scores its answers. All files are read before the first question is asked; with `out` each
 * sample is written as it is answered. Throws ConfigError, DataError, or the signal's reason.
 */
export async function evaluate(model: ChatModel, options: EvaluateOptions): Promise<Results> {
  const { data, batchSize = 8, limit, out, log = silent } = options;
  const wanted = [...new Set(options.tasks)].map((task) => (typeof task === 'string' ? pick<Task>(everyTask, 'task', task) : task));
  if (wanted.length === 0) throw new ConfigError('no tasks to evaluate on', { hint: `known: ${Object.keys(everyTask).join(', ')}` });
  const opened = [];
  for (const task of wanted) opened.push({ task, benchmark: await task.open(data) });
  if (out !== undefined) {
    await mkdir(out, { recursive: true });
    // An earlier run's results would not be those of the samples that are written now.
    await rm(join(out, 'results.json'), { force: true });
  }
  const results: Record<string, TaskResult> = {};
  for (const { task, benchmark } of opened) {
    results[task.name] = await run(model, task, benchmark, { ...options, batchSize });
    log({ event: 'evaluated', task: task.name, ...results[task.name] });
  }
  const { dtype, device } = model.model.languageModel.headWeight;
  const settings = { batchSize, ...(limit !== undefined && { limit }), dtype, device, template: model.processor.template.source };
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
  const scored: Scored[] = new Array(samples.length);
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
  const errors = scored.flatMap(({ error }) => error ?? []);
  return {
    metrics: task.aggregate(scored),
    baselines: baselines(task, samples, benchmark.train),
    samples: samples.length,
    failures: errors.length,
    ...(errors[0] !== undefined && { firstFailure: errors[0] }),
    seconds: (performance.now() - start) / 1000,
    maxNewTokens: task.maxNewTokens,
    dataSha256: await sha256(benchmark.files),
  };
}

function baselines(task: Task, samples: readonly Sample[], train: readonly Sample[] | undefined): TaskResult['baselines'] {
  if (train === undefined) return {};
  return {
    majority: scoreBaseline(task, samples, majorityBaseline(train)),
    'question only': scoreBaseline(task, samples, questionOnlyBaseline(train)),
  };
}

async function sha256(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) hash.update(await readFile(file));
  return hash.digest('hex');
}

async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.part`, text);
  await rename(`${path}.part`, path);
}
