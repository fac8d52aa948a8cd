import { UsageError } from '../errors.ts';
import { pick } from '../model/registry.ts';
import { customTask, isTaskFile, openCustom } from './custom/custom-task.ts';
import { checkImages } from './image-places.ts';
import { type Benchmark, inProfile, type Profile, type Task } from './task.ts';
import { aliases } from './tasks/aliases.ts';
import { tasks as everyTask } from './tasks/index.ts';

/** What is opened, and where its files are. */
export interface WantedTasks {
  /** Names, files of tasks of your own (YAML or TypeScript), or such tasks themselves. */
  readonly tasks: readonly (string | Task)[];
  /** The folder that holds the tasks' files, each under its name or by itself. */
  readonly data: string;
  /** Whose prompts, settings and scorers are followed; the benchmarks' own unless said. */
  readonly profile?: Profile | undefined;
}

/** A task as the profile has it, with its samples. */
export interface OpenedTask {
  readonly task: Task;
  readonly benchmark: Benchmark;
}

/** Reads the files of the tasks, all before anything is asked. Throws UsageError for an unknown task and for two of one name, DataError for files that are missing. */
export async function openTasks({ tasks, data, profile = 'official' }: WantedTasks): Promise<OpenedTask[]> {
  if (tasks.length === 0) throw new UsageError('no tasks to evaluate on', { hint: `known: ${Object.keys(everyTask).join(', ')}` });
  const opened: OpenedTask[] = [];
  const known = new Map<string, Task>();
  for (const name of new Set(tasks)) {
    const task = await taskOf(name);
    const other = known.get(task.name);
    // Two names of one task are one task.
    if (other === task) continue;
    if (other) throw new UsageError(`two tasks are called ${task.name}`, { hint: 'give your own another name: results go by it' });
    known.set(task.name, task);
    const benchmark = await (typeof name === 'string' && isTaskFile(name) ? openCustom(task, data, name) : task.open(data));
    checkImages(benchmark.samples, typeof name === 'string' ? name : task.name);
    opened.push({ task: inProfile(task, profile), benchmark });
  }
  return opened;
}

/** A task by its name here or in another harness, or by its file. Throws UsageError, and ConfigError for a file that is wrong. */
export async function taskOf(wanted: string | Task): Promise<Task> {
  if (typeof wanted !== 'string') return wanted;
  return isTaskFile(wanted) ? customTask(wanted) : pick<Task>(everyTask, 'task', aliases[wanted] ?? wanted, { asked: true });
}
