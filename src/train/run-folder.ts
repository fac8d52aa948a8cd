import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { CheckpointError, ConfigError, isSystemError } from '../errors.ts';
import { flush, writeWhole } from '../flush.ts';
import { lockFolder } from '../folder-lock.ts';
import type { LogEvent } from '../log.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Environment } from './environment.ts';
import { ownFolders } from './own-folders.ts';
import { openParts, removeParts, replaceParts } from './parts-files.ts';
import type { Recipe } from './recipe.ts';
import { readRecipe, writeRecipe } from './recipe-file.ts';
import { recipeFile } from './save.ts';
import { newestState, newestStateFolder, removeStates, saveState, type TrainingState } from './state.ts';
import { fromFirst, type Team } from './team.ts';
import { EventFile, type ScalarEvent } from './tensorboard.ts';

/** How often the state of training is saved; whatever comes first. */
export interface SaveOptions {
  readonly steps?: number;
  readonly minutes?: number;
  /** States that are kept, 2 unless said otherwise. */
  readonly keep?: number;
}

const metricsFile = 'metrics.jsonl';
const { states, tensorboard } = ownFolders;

/** The paths at which two documents differ, with both values. */
function differences(before: unknown, now: unknown, path = ''): string[] {
  if (isDeepStrictEqual(before, now)) return [];
  const isMap = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
  if (!isMap(before) || !isMap(now)) return [`${path || 'recipe'}: ${JSON.stringify(before)} then, ${JSON.stringify(now)} now`];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(now)])];
  return keys.flatMap((key) => differences(before[key], now[key], path === '' ? key : `${path}.${key}`));
}

/** The weights of a stage's best validation until it is done. */
export interface BestWeights {
  /** `team` are the ranks that keep parts of them. */
  save(weights: Iterable<readonly [string, Tensor]>, team: Team): void;
  open(): WeightSource;
}

const bestFile = (folder: string, stage: string): string => join(folder, `${stage}.best.safetensors`);

/** The best weights of a run whose folder rank 0 writes: other ranks write their parts alone. */
export const othersBest = (folder: string, stage: string): BestWeights => ({
  save: (weights, team) => {
    if (team.size > 1) replaceParts(bestFile(folder, stage), weights, team);
  },
  open: () => openParts(bestFile(folder, stage)),
});

/** Throws ConfigError naming a rank that does not see a folder as rank 0 does. */
export async function checkShared(team: Team, folder: string): Promise<void> {
  if (team.size === 1) return;
  const mark = join(
    folder,
    fromFirst(team, () => `.met-${hostname()}-${process.pid}`),
  );
  if (team.rank === 0) writeFileSync(mark, '');
  team.barrier();
  // What a file system of the network tells may be some seconds old.
  for (let i = 0; i < 40 && !existsSync(mark); i++) await setTimeout(250);
  const all = team.gather({ host: hostname(), sees: existsSync(mark) });
  if (team.rank === 0) rmSync(mark);
  const blind = all.findIndex(({ sees }) => !sees);
  if (blind < 0) return;
  throw new ConfigError(`rank ${blind} (${all[blind]?.host}) does not see the files that rank 0 (${all[0]?.host}) writes in ${folder}`, {
    hint: 'name a folder with --out that all machines share, by the same path',
  });
}

/** What a training run leaves on disk: the recipe, metrics, a checkpoint for each stage that is done, and states to go on from. */
export class RunFolder implements Disposable {
  readonly folder: string;
  /** Stages whose checkpoint is there. */
  readonly done: number;
  /** Where the first stage that is not done is to go on. */
  readonly state: TrainingState | undefined;
  readonly #stages: readonly string[];
  readonly #lock: Disposable;
  #tensorboard: EventFile | undefined;

  private constructor(
    folder: string,
    { stages, lock, done, state }: { stages: readonly string[]; lock: Disposable; done: number; state?: TrainingState },
  ) {
    this.folder = folder;
    this.#stages = stages;
    this.#lock = lock;
    this.done = done;
    this.state = state;
  }

  /**
   * Takes a folder for a run until it is disposed of; with `resume` one that holds a run of the same recipe is taken over, and its metrics cut back to
   * where it goes on. Throws ConfigError when the folder holds a run and is not to be resumed, one of another recipe, or one that is going on on this host.
   */
  static async open(folder: string, recipe: Recipe, { resume }: { resume: boolean }): Promise<RunFolder> {
    // Schedulers start a run again on whatever host is free, where nobody can go and remove a lock.
    const lock = lockFolder(folder, { work: 'training', elsewhere: 'gone' });
    try {
      return await RunFolder.#open(folder, recipe, { resume, lock });
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  static async #open(folder: string, recipe: Recipe, { resume, lock }: { resume: boolean; lock: Disposable }): Promise<RunFolder> {
    const stages = recipe.stages.map(({ name }) => name);
    const taken = [...stages, states].map((name) => join(folder, name)).find((path) => existsSync(path));
    const stored = join(folder, recipeFile);
    // A run that has saved nothing yet, such as one that was refused, may begin again by another recipe.
    if (!resume || !existsSync(stored) || taken === undefined) {
      if (taken !== undefined) {
        throw new ConfigError(`${taken} exists already`, {
          hint: resume
            ? `${stored} is missing, so it is not known what to resume; name another folder with --out`
            : 'go on with it by --resume, name another folder with --out, or remove this one',
        });
      }
      for (const name of [metricsFile, tensorboard]) await rm(join(folder, name), { recursive: true, force: true });
      await writeWhole(stored, writeRecipe(recipe)).catch((cause: Error) => {
        throw new CheckpointError(`${stored}: cannot be written: ${cause.message}`, { cause, hint: 'make room' });
      });
      const run = new RunFolder(folder, { stages, lock, done: 0 });
      run.#removeHalves();
      return run;
    }
    const changed = differences(await readRecipe(stored), recipe);
    if (changed.length > 0) {
      throw new ConfigError(`${folder} holds a run of another recipe:\n${changed.slice(0, 8).join('\n')}`, {
        hint: 'resume with the recipe that it was started with, or name another folder with --out',
      });
    }
    const missing = stages.findIndex((name) => !existsSync(join(folder, name)));
    const done = missing < 0 ? stages.length : missing;
    const { state, unreadable } = newestState(join(folder, states), stages[done] ?? '');
    const run = new RunFolder(folder, { stages, lock, done, ...(state && { state }) });
    run.#removeHalves();
    run.#cutMetrics();
    await run.#redrawTensorboard();
    for (const { folder, reason } of unreadable) run.append({ event: 'unreadable-state', folder, reason });
    return run;
  }

  /** The checkpoint's folder of a stage. */
  stageFolder = (stage: string): string => join(this.folder, stage);

  /** The checkpoint that the first stage that is not done starts from, when one before it is done. */
  get startFolder(): string | undefined {
    const last = this.#stages[this.done - 1];
    return last === undefined ? undefined : this.stageFolder(last);
  }

  /** Adds a line to metrics.jsonl, with the time in seconds since 1970, and its numbers to TensorBoard's. Throws CheckpointError when it cannot. */
  append(event: LogEvent): void {
    const file = join(this.folder, metricsFile);
    const timed = { time: Date.now() / 1000, ...event };
    try {
      appendFileSync(file, `${JSON.stringify(timed)}\n`);
      this.#tensorboard ??= new EventFile(join(this.folder, tensorboard), timed.time);
      const shown = scalarsOf(timed);
      if (shown) this.#tensorboard.add(shown);
    } catch (cause) {
      throw this.explained(new CheckpointError(`${file}: cannot be written: ${(cause as Error).message}`, { cause }));
    }
  }

  /** What metrics.jsonl says now. */
  async events(): Promise<LogEvent[]> {
    const file = join(this.folder, metricsFile);
    if (!existsSync(file)) return [];
    const lines = (await readFile(file, 'utf8')).split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as LogEvent);
  }

  /** Saves where a stage stands. Throws CheckpointError naming the last good state. */
  save(facts: Omit<Parameters<typeof saveState>[1], 'metricsBytes'>, options: Parameters<typeof saveState>[2]): string {
    const file = join(this.folder, metricsFile);
    try {
      const metricsBytes = existsSync(file) ? flushed(file) : 0;
      return saveState(join(this.folder, states), { ...facts, metricsBytes }, options);
    } catch (error) {
      throw this.explained(error);
    }
  }

  /** Runs what writes a stage's checkpoint; its error then names what was saved before. */
  async saving(write: () => Promise<void>): Promise<void> {
    try {
      flush(join(this.folder, metricsFile)); // there is no state to go back to once the checkpoint is there
      await write();
    } catch (error) {
      throw this.explained(error);
    }
  }

  /** Keeps what the run is made with. */
  async describe(environment: Environment): Promise<void> {
    await writeFile(join(this.folder, 'environment.json'), `${JSON.stringify(environment, undefined, 2)}\n`);
  }

  /** An error of writing, with what was saved before as its hint; others as they are. */
  explained(error: unknown): unknown {
    if (!(error instanceof CheckpointError) && !isSystemError(error)) return error;
    const last = newestStateFolder(join(this.folder, states)) ?? this.startFolder;
    const hint =
      last === undefined ? 'make room; nothing was saved before' : `make room and go on with --resume: ${last} was saved whole before`;
    return new CheckpointError(error.message, { hint, cause: error });
  }

  /** Where the weights of a stage's best validation are kept until it is done. */
  best(stage: string): BestWeights {
    const file = bestFile(this.folder, stage);
    return {
      save: (weights, team) => {
        try {
          replaceParts(file, weights, team);
          flush(this.folder); // a state that is saved from now on counts on them
        } catch (error) {
          throw this.explained(error);
        }
      },
      open: () => openParts(file),
    };
  }

  /** The checkpoint of the stage is there: its states are no longer needed. */
  stageDone(stage: string): void {
    removeStates(join(this.folder, states));
    removeParts(bestFile(this.folder, stage));
  }

  /** Writes what the metrics say into a new file in the place of the old ones, which may tell more. */
  async #redrawTensorboard(): Promise<void> {
    const folder = join(this.folder, tensorboard);
    await rm(folder, { recursive: true, force: true });
    const events = await this.events();
    const [first] = events;
    if (!first) return;
    this.#tensorboard = new EventFile(folder, Number(first['time'] ?? 0));
    for (const event of events) {
      const shown = scalarsOf(event);
      if (shown) this.#tensorboard.add(shown);
    }
  }

  [Symbol.dispose](): void {
    this.#tensorboard?.close();
    this.#lock[Symbol.dispose]();
  }

  /** Removes what was being written when the run was killed, and what it had no time to remove. */
  #removeHalves(): void {
    const half = (name: string): boolean => this.#stages.some((stage) => name.startsWith(`.${stage}.`)) && name.endsWith('.part');
    for (const name of readdirSync(this.folder).filter(half)) rmSync(join(this.folder, name), { recursive: true, force: true });
    for (const stage of this.#stages.slice(0, this.done)) removeParts(bestFile(this.folder, stage));
    if (this.done === this.#stages.length) removeStates(join(this.folder, states));
  }

  /** Forgets what was reported behind the state or checkpoint that the run goes on from. */
  #cutMetrics(): void {
    const file = join(this.folder, metricsFile);
    if (!existsSync(file)) return;
    if (this.state) {
      truncateSync(file, Math.min(flushed(file), this.state.metricsBytes));
      return;
    }
    const text = readFileSync(file, 'utf8');
    const kept = new Set(this.#stages.slice(0, this.done));
    let bytes = 0;
    for (const line of text.split('\n').slice(0, -1)) {
      const { stage } = parsed(line);
      if (typeof stage === 'string' && !kept.has(stage)) break;
      bytes += Buffer.byteLength(line) + 1;
    }
    truncateSync(file, bytes);
  }
}

const shown: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  step: {
    loss: 'loss',
    learningRate: 'learning rate',
    gradNorm: 'gradient norm',
    tokensPerSecond: 'tokens per second',
    memoryBytes: 'memory in bytes',
  },
  validation: { loss: 'validation loss' },
};

/** The numbers of an event that are drawn over the steps of their stage. */
function scalarsOf({ event, time, stage, step, ...facts }: LogEvent): ScalarEvent | undefined {
  const names = shown[event];
  if (!names) return undefined;
  // JSON has null for what is not finite.
  const scalars = Object.entries(names).map(([key, name]) => [`${stage}/${name}`, Number(facts[key] ?? Number.NaN)] as const);
  return { time: Number(time ?? 0), step: Number(step), scalars: Object.fromEntries(scalars) };
}

/** A file's length, all of which is on the disk. */
function flushed(path: string): number {
  flush(path);
  return statSync(path).size;
}

/** A line of metrics; one that is torn is of no stage. */
function parsed(line: string): { readonly stage?: unknown } {
  try {
    return JSON.parse(line) as { stage?: unknown };
  } catch {
    return { stage: '' };
  }
}
