import { existsSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { createJiti } from 'jiti';
import { z } from 'zod';
import { ConfigError, TinyLlavaError } from '../../errors.ts';
import { examine } from '../../model/explain.ts';
import { checkIds, readText } from '../questions-file.ts';
import { submissionForms } from '../submission.ts';
import type { Benchmark, Task } from '../task.ts';
import { TaskName, yamlTask } from './yaml-task.ts';

const endings = ['.yaml', '.yml', '.ts', '.mts', '.js', '.mjs'];

/** Whether a task is named by its file. */
export const isTaskFile = (name: string): boolean => endings.includes(extname(name));

const callable = z.custom<(...values: never[]) => unknown>((value) => typeof value === 'function', 'expected a function');

/** What a task in code must have; what it says is tried on its first sample. */
const CodedTask = z.looseObject({
  name: TaskName,
  about: z.string(),
  maxNewTokens: z.int().positive(),
  open: callable,
  prompt: callable,
  score: callable,
  aggregate: callable,
  submission: callable.optional(),
  submissionForm: z.enum(submissionForms).optional(),
});

/** A task of the user's own: YAML, or TypeScript that exports `task`. Throws ConfigError for a file that is wrong. */
export async function customTask(file: string): Promise<Task> {
  if (!existsSync(file)) throw new ConfigError(`${file} does not exist`, { hint: 'name a task, or the YAML or TypeScript file of one' });
  if (/^\.ya?ml$/.test(extname(file))) return yamlTask(await readText(file), file);
  const exported = await exportsOf(file);
  const { problems } = examine(CodedTask, exported['task'] ?? exported['default']);
  if (problems) {
    const said = problems.map(({ path, message }) =>
      path.length === 0 ? `no task in it: ${message}` : `task.${path.join('.')}: ${message}`,
    );
    throw new ConfigError(`${file}: ${said.join('; ')}`, {
      hint: 'write `export const task: Task = { name, about, maxNewTokens, open, prompt, score, aggregate }`',
    });
  }
  return (exported['task'] ?? exported['default']) as Task;
}

async function exportsOf(file: string): Promise<Record<string, unknown>> {
  try {
    // The package's own name leads to what is running, so that a task file may lie anywhere; found at run time, because it imports this file.
    const self = new URL(`../../index${extname(import.meta.url)}`, import.meta.url);
    const tinyllava: unknown = await import(self.href);
    return await createJiti(import.meta.url, { virtualModules: { tinyllava }, fsCache: false, interopDefault: false }).import(
      resolve(file),
    );
  } catch (cause) {
    throw new ConfigError(`${file}: cannot be loaded: ${(cause as Error).message}`, { cause });
  }
}

const Tried = z.object({ parsed: z.string(), score: z.number().min(0).max(1) });
const Asked = z
  .array(
    z.looseObject({
      role: z.enum(['system', 'user', 'assistant']),
      content: z.union([z.string(), z.array(z.looseObject({ type: z.enum(['text', 'image']) }))]),
    }),
  )
  .min(1);
const Reported = z
  .array(
    z.looseObject({
      name: z.string(),
      value: z.number(),
      count: z.number(),
      interval: z.looseObject({ low: z.number(), high: z.number() }),
    }),
  )
  .min(1);

const Opened = z.looseObject({
  samples: z.array(
    z.looseObject({
      id: z.string(),
      question: z.string(),
      images: z.array(z.string()),
      targets: z.array(z.string()),
      category: z.string(),
    }),
  ),
  files: z.array(z.string()),
});

/**
 * Opens a task of the user's own, looks at its samples and tries it on the first, so that a mistake in it is found before anything is asked. Throws ConfigError,
 * and DataError for ids that are wrong.
 */
export async function openCustom(task: Task, data: string, file: string): Promise<Benchmark> {
  let benchmark: Benchmark;
  try {
    benchmark = await task.open(data);
  } catch (cause) {
    if (cause instanceof TinyLlavaError) throw cause;
    throw new ConfigError(`${file}: open fails: ${(cause as Error).message}`, { cause });
  }
  const [issue] = examine(Opened, benchmark).problems ?? [];
  if (issue) throw new ConfigError(`${file}: open gives no samples and files: ${issue.path.join('.')}: ${issue.message}`);
  tryTask(task, benchmark, file);
  return benchmark;
}

function tryTask(task: Task, { samples }: Benchmark, file: string): void {
  const [sample] = samples;
  if (!sample) throw new ConfigError(`${file}: ${task.name} has no samples`);
  checkIds(samples, file);
  const attempt = <Schema extends z.ZodType>(what: string, schema: Schema, make: () => unknown): z.output<Schema> => {
    let value: unknown;
    try {
      value = make();
    } catch (cause) {
      if (cause instanceof TinyLlavaError) throw cause;
      throw new ConfigError(`${file}: ${what} of the first sample fails: ${(cause as Error).message}`, { cause });
    }
    const { data, problems } = examine(schema, value);
    if (!problems) return data;
    const [issue] = problems;
    throw new ConfigError(
      `${file}: ${what} of the first sample gives no ${what === 'prompt' ? 'messages' : 'result'}: ${issue?.path.join('.')}: ${issue?.message}`,
    );
  };
  attempt('prompt', Asked, () => task.prompt(sample));
  const verdict = attempt('score', Tried, () => task.score(sample, sample.targets[0] ?? ''));
  attempt('aggregate', Reported, () => task.aggregate([{ sample, answer: '', ...verdict }]));
}
