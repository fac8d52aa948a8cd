import { appendFileSync, existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ConfigError } from '../errors.ts';
import { type Log, silent } from '../log.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import type { Device } from '../tensor/device.ts';
import { build, openData } from './build.ts';
import { settle } from './low-rank.ts';
import { parseRecipe, type Recipe, type RecipeInput } from './recipe.ts';
import { writeRecipe } from './recipe-file.ts';
import { recipeFile, saveTrained, saveTrainedAdapter } from './save.ts';
import { runStage, type StepEvent } from './stage.ts';
import type { TowerFeatures, TowerFeaturesOptions } from './tower-features.ts';

/** The model as it stands, with the processor of its stage. */
export interface Trained {
  readonly model: TinyLlava;
  readonly processor: Processor;
}

/** Where and how to train. None of it changes what is learned, except that micro-batches add up in another order. */
export interface TrainOptions {
  /** The folder of the run: a checkpoint for each stage, and metrics.jsonl. Without it nothing is written. */
  readonly out?: string;
  /** Where the recipe's relative paths start; the working directory unless said otherwise. */
  readonly root?: string;
  readonly device?: Device;
  /** Conversations that go through the model at once, the whole batch unless said otherwise. */
  readonly microBatch?: number;
  /** Layers are computed again in the backward pass instead of kept: less memory, more time, the same gradients. */
  readonly recompute?: boolean;
  /** Threads that load images. */
  readonly workers?: number;
  /** Where a frozen tower's features are kept, in memory unless a folder is named; on a GPU they are not kept unless this is given. */
  readonly features?: TowerFeaturesOptions;
  readonly log?: Log;
  /** Ends the run behind the step that is going on. */
  readonly signal?: AbortSignal;
  /** Called behind every step, whose seconds it does not count towards. */
  readonly onStep?: (event: StepEvent, trained: Trained) => void | Promise<void>;
  /** Called when a stage is done and saved. */
  readonly onStageEnd?: (stage: StageResult, trained: Trained) => void | Promise<void>;
}

/** One stage that was run. */
export interface StageResult {
  readonly name: string;
  /** Its checkpoint, when it was run to its end with `out`. */
  readonly folder?: string;
  readonly steps: readonly StepEvent[];
  readonly seconds: number;
}

/** What training gave; `stopped` when the signal ended it early. */
export interface TrainResult extends Trained {
  readonly stages: readonly StageResult[];
  readonly seconds: number;
  readonly stopped: boolean;
}

/**
 * Runs the stages of a recipe one after another, each from the weights of the one before. The same recipe and seed give the same bits on the
 * CPU. Throws ConfigError, DataError or CheckpointError.
 */
export async function train(input: RecipeInput, options: TrainOptions = {}): Promise<TrainResult> {
  const recipe = parseRecipe(input);
  const { out, root = '.', device = 'cpu', log: report = silent, signal, onStep, onStageEnd } = options;
  const folders = out === undefined ? [] : recipe.stages.map(({ name }) => join(out, name));
  const taken = folders.find((folder) => existsSync(folder));
  if (taken !== undefined) throw new ConfigError(`${taken} exists already`, { hint: 'name another folder with --out, or remove this one' });

  const bases = adapterBases(recipe, { root, folders });
  const { model, processorFor } = await build(recipe, { root, device, log: report, signal });
  const processors = recipe.stages.map((stage) => processorFor(stage));
  if (out !== undefined) {
    await mkdir(out, { recursive: true });
    await writeFile(join(out, recipeFile), writeRecipe(recipe));
  }
  const log: Log = (event) => {
    if (out !== undefined) appendFileSync(join(out, 'metrics.jsonl'), `${JSON.stringify(event)}\n`);
    report(event);
  };
  const stages: StageResult[] = [];
  let [seconds, stopped] = [0, signal?.aborted === true];
  let processor = processors[0] as Processor;
  let known: TowerFeatures | undefined;
  for (const [index, stage] of recipe.stages.entries()) {
    if (stopped) break;
    processor = processors[index] as Processor;
    const trained = { model, processor };
    await using data = await openData(stage.data, root);
    const stageOptions = { ...options, seed: recipe.seed, secondsBefore: seconds, known, log };
    const run = await runStage({ stage, data, ...trained }, { ...stageOptions, onStep: (event) => onStep?.(event, trained) });
    known = run.features;
    seconds += run.seconds;
    stopped = run.stopped;
    const folder = stopped ? undefined : folders[index];
    if (folder !== undefined && bases[index] !== undefined) {
      await saveTrainedAdapter(folder, { ...trained, recipe, stage, base: bases[index] });
    }
    settle(model);
    if (folder !== undefined) {
      if (bases[index] === undefined) await saveTrained(folder, { ...trained, recipe });
      log({ event: 'checkpoint', stage: stage.name, folder });
    }
    const result = { name: stage.name, steps: run.steps, seconds: run.seconds, ...(folder !== undefined && { folder }) };
    stages.push(result);
    if (!stopped) await onStageEnd?.(result, trained);
  }
  known?.free();
  return { model, processor, stages, seconds, stopped };
}

/** For each stage whose adapter is kept, the folder of the model from before it. Throws ConfigError where there is none. */
function adapterBases({ model, stages }: Recipe, { root, folders }: { root: string; folders: readonly string[] }): (string | undefined)[] {
  const from = 'from' in model && typeof model.from === 'string' ? model.from : undefined;
  const path = from === undefined ? undefined : resolve(root, from);
  const opened = path !== undefined && existsSync(path) ? path : from;
  return stages.map(({ name, merge }, index) => {
    if (merge !== false || folders.length === 0) return undefined;
    const base = index > 0 ? folders[index - 1] : opened;
    if (base !== undefined) return base;
    throw new ConfigError(`stage ${name}: merge: false, but there is no checkpoint that the adapter could be for`, {
      hint: 'start from a whole checkpoint (model: { from: … }), or have a stage before this one',
    });
  });
}
