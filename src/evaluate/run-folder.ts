import { createHash } from 'node:crypto';
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../errors.ts';
import { writeWhole } from '../flush.ts';
import { contentParts } from '../processor/message.ts';
import { questionOf } from './answer-samples.ts';
import { sha256 } from './file-hash.ts';
import type { OpenedTask } from './open-tasks.ts';
import { submissionForms } from './submission.ts';

/** What answers depend on: a run may go on where it was left only while all of it is the same. */
export interface RunFacts {
  readonly version: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly tasks: Readonly<Record<string, TaskFacts>>;
}

/** What the answers to one task depend on. */
interface TaskFacts {
  readonly samples: number;
  /** SHA-256 of the files with questions and answers. */
  readonly data: string;
  /** SHA-256 of the prompts as they are asked and of the right answers. */
  readonly questions: string;
}

/** What the answers to a task's first `limit` samples depend on. */
export async function taskFacts({ task, benchmark }: OpenedTask, limit: number | undefined): Promise<TaskFacts> {
  const samples = benchmark.samples.slice(0, limit);
  const hash = createHash('sha256');
  for (const sample of samples) {
    const { messages, ...settings } = questionOf(task, sample);
    // Where images lie is no part of the question.
    const parts = messages.map((message) => [
      message.role,
      ...contentParts(message).map((part) => (part.type === 'text' ? part.text : '<image>')),
    ]);
    hash.update(JSON.stringify([sample.id, parts, settings, sample.targets]));
  }
  return { samples: samples.length, data: await sha256(benchmark.files), questions: hash.digest('hex') };
}

/**
 * Makes a folder that was taken ready for a run. Its `run.json` says what the answers in it depend on. With `resume` the run that was left in it goes on; without, a run
 * that was left in it unfinished is not thrown away. Throws ConfigError.
 */
export async function openRunFolder(folder: string, facts: RunFacts, resume: boolean): Promise<void> {
  const path = join(folder, 'run.json');
  const before = await readFacts(path);
  if (resume && before !== undefined) {
    const differences = differing(before, JSON.parse(JSON.stringify(facts)));
    if (differences.length > 0) {
      throw new ConfigError(`${folder} holds another run: ${differences.join('; ')}`, {
        hint: 'give --resume what the run began with, or name another folder with --out',
      });
    }
  } else if (before !== undefined && (await isUnfinished(folder, before))) {
    throw new ConfigError(`${folder} holds a run that is not finished`, {
      hint: 'go on with it by --resume, name another folder with --out, or delete this one',
    });
  }
  // An earlier run's results would not be those of the samples that are written now.
  for (const name of ['results.json', 'timings.json', 'report.md', 'report.html']) await rm(join(folder, name), { force: true });
  for (const task of Object.keys({ ...before?.tasks, ...facts.tasks })) {
    for (const form of submissionForms) await rm(join(folder, `submission_${task}.${form}`), { force: true });
    if (!resume || before === undefined) await rm(join(folder, `samples_${task}.jsonl`), { force: true });
  }
  await writeWhole(path, `${JSON.stringify(facts, null, 2)}\n`);
}

async function readFacts(path: string): Promise<RunFacts | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    return undefined;
  }
  try {
    return JSON.parse(text) as RunFacts;
  } catch (cause) {
    throw new ConfigError(`${path}: not JSON: ${(cause as Error).message}`, { hint: 'name another folder with --out', cause });
  }
}

/** Whether a run has answers but no results. */
async function isUnfinished(folder: string, { tasks }: RunFacts): Promise<boolean> {
  const bytes = async (name: string): Promise<number> => (await stat(join(folder, name)).catch(() => undefined))?.size ?? 0;
  if ((await bytes('results.json')) > 0) return false;
  for (const task of Object.keys(tasks)) if ((await bytes(`samples_${task}.jsonl`)) > 0) return true;
  return false;
}

/** What two values that JSON has do not have in common, each named by where it stands. */
function differing(before: unknown, now: unknown, place = ''): string[] {
  if (isObject(before) && isObject(now)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(now)])];
    return keys.flatMap((key) => differing(before[key], now[key], place === '' ? key : `${place}.${key}`));
  }
  const [was, is] = [JSON.stringify(before), JSON.stringify(now)];
  return was === is ? [] : [`${place} was ${brief(was)} and is ${brief(is)}`];
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

function brief(text: string | undefined): string {
  if (text === undefined) return 'not given';
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
