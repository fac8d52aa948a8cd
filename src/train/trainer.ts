import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigError } from '../errors.ts';
import { type Log, type LogEvent, silent } from '../log.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import type { Device } from '../tensor/device.ts';
import { LostRankError, type ProcessGroup } from '../tensor/distributed.ts';
import { build, reopen } from './build.ts';
import { beyondContext, checkStages, sourcesOf } from './check.ts';
import { environment } from './environment.ts';
import { dataFingerprints } from './fingerprint.ts';
import { settle } from './low-rank.ts';
import { ownFolders } from './own-folders.ts';
import { Masters } from './precision.ts';
import { parseRecipe, type Recipe, type RecipeInput } from './recipe.ts';
import { checkShared, othersBest, RunFolder, type SaveOptions } from './run-folder.ts';
import { saveTrained, saveTrainedAdapter } from './save.ts';
import { checkSeveral } from './shardable.ts';
import { runStage, type StepEvent, type ValidationEvent } from './stage.ts';
import { StageData } from './stage-data.ts';
import { readState, saveState, type TrainingState } from './state.ts';
import { checkEqual, fromFirst, solo } from './team.ts';
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
  /** Conversations that go through the model at once; as many as `microBatchLimits` says unless given. */
  readonly microBatch?: number;
  /** Layers are computed again in the backward pass instead of kept: less memory, more time, the same gradients. */
  readonly recompute?: boolean;
  /** Threads that load images. */
  readonly workers?: number;
  /** Where a frozen tower's features are kept, in memory unless a folder is named; on a GPU they are not kept unless this is given. */
  readonly features?: TowerFeaturesOptions;
  readonly log?: Log;
  /**
   * The processes that train together, each called with the same recipe and options, on files that all of them see. Rank 0 alone writes, logs and
   * calls back.
   */
  readonly group?: ProcessGroup | undefined;
  /**
   * Whether each process of the group keeps a part of the weights, gradients and optimizer's memory instead of all of them; layers are then computed
   * again in backward passes, and callbacks cannot use the model before the stage's end.
   */
  readonly sharded?: boolean;
  /** Goes on with the run that `out` holds, where there is one. */
  readonly resume?: boolean;
  /** When what is needed to resume is saved in `out`; only where the signal ends the run unless said otherwise. */
  readonly save?: SaveOptions;
  /** Ends the run behind the step that is going on. */
  readonly signal?: AbortSignal;
  /** Called behind every step, whose seconds it does not count towards. */
  readonly onStep?: (event: StepEvent, trained: Trained) => void | Promise<void>;
  /** Called behind every validation. */
  readonly onValidation?: (event: ValidationEvent, trained: Trained) => void | Promise<void>;
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

/** What training gave; `stopped` when the signal ended it early. The model is left in the dtype that it computes in. */
export interface TrainResult extends Trained {
  readonly stages: readonly StageResult[];
  readonly seconds: number;
  readonly stopped: boolean;
}

/**
 * Runs the stages of a recipe one after another, each from the weights of the one before. The same recipe, seed and number of processes give the same
 * bits on the CPU, however often the run was broken off and resumed. Throws ConfigError, DataError or CheckpointError; what one rank throws ends the
 * others too, with an error that names it.
 */
export async function train(input: RecipeInput, options: TrainOptions = {}): Promise<TrainResult> {
  try {
    return await trainAll(input, options.group && options.group.rank > 0 ? following(options) : options);
  } catch (error) {
    if (!(error instanceof LostRankError)) options.group?.fail((error as Error).message);
    throw error;
  }
}

/** What a rank other than the first does: the same, in silence. */
const following = ({ onStep, onValidation, onStageEnd, log, ...options }: TrainOptions): TrainOptions => options;

async function trainAll(input: RecipeInput, options: TrainOptions): Promise<TrainResult> {
  const recipe = parseRecipe(input);
  const {
    out,
    root = '.',
    device = 'cpu',
    log: report = silent,
    signal,
    resume = false,
    save = {},
    group,
    sharded = false,
    onStep,
    onStageEnd,
  } = options;
  const team = group ?? solo;
  if (sharded) checkSeveral(team.size);
  checkEqual(team, 'the recipe', recipe);
  checkEqual(team, 'the option sharded', sharded);
  const unsaved = recipe.stages.find(({ validation }) => validation?.keep === 'best');
  if (unsaved && out === undefined) throw new ConfigError(`stage ${unsaved.name}: the best weights can be kept only in a folder (out)`);
  const bases = adapterBases(recipe, { root, folders: out === undefined ? [] : recipe.stages.map(({ name }) => join(out, name)) });
  using folder = out === undefined || team.rank > 0 ? undefined : await RunFolder.open(out, recipe, { resume });
  if (out !== undefined) await checkShared(team, out);
  const start = fromFirst(team, () => ({ next: folder?.done ?? 0, checkpoint: folder?.startFolder, state: folder?.state?.folder }));
  const { next, checkpoint } = start;
  const saved = folder?.state ?? (start.state === undefined ? undefined : readState(start.state));
  const { model, processorFor } = await build(recipe, {
    root,
    device,
    log: report,
    signal,
    ...(checkpoint !== undefined && { next: { stage: next, folder: checkpoint } }),
  });
  const processors = recipe.stages.map((stage) => processorFor(stage));
  const left = recipe.stages.slice(next);
  await checkStages({ stages: left }, { model, root, sharded });
  for (const stage of left) {
    const beyond = beyondContext(model, stage);
    if (beyond) report({ event: 'beyond-context', stage: stage.name, ...beyond });
  }
  const log: Log = (event) => {
    folder?.append(event);
    report(event);
  };
  const { microBatch, recompute, workers } = options;
  const together = group && { processes: group.size, sharded };
  if (folder) await folder.describe(await environment(device, { microBatch, recompute, workers, ...together }));
  const before = (await folder?.events()) ?? [];
  const stages = recipe.stages.slice(0, next).map(({ name }) => stageSoFar(name, before, folder?.stageFolder(name)));
  let [seconds, stopped] = [
    saved?.seconds ?? stages.at(-1)?.steps.at(-1)?.seconds ?? 0,
    team.gather(signal?.aborted === true).includes(true),
  ];
  let processor = processors[Math.max(0, next - 1)] as Processor;
  let masters: Masters | undefined;
  let known: TowerFeatures | undefined;
  if (resume && (next > 0 || saved)) report({ event: 'resume', stage: recipe.stages[next]?.name, step: saved?.step ?? 0 });
  for (const [index, stage] of recipe.stages.entries()) {
    if (stopped || index < next) continue;
    processor = processors[index] as Processor;
    const trained = { model, processor };
    using opened = await StageData.open(stage, { root, seed: recipe.seed });
    const { whole, rows: data, heldOut } = opened;
    const fingerprints = folder ? await dataFingerprints(sourcesOf(stage), root) : [];
    const state = index === next ? saved : undefined;
    if (folder && state) checkData(state, fingerprints);
    if (whole.leftOut && !state) log({ event: 'left-out', stage: stage.name, ...whole.leftOut });
    masters?.restore();
    const run = await runStage(
      { stage, data, heldOut, ...trained },
      {
        ...options,
        seed: recipe.seed,
        precision: recipe.precision,
        secondsBefore: seconds,
        known,
        log,
        state,
        onStep: (event) => onStep?.(event, trained),
        onValidation: (event) => options.onValidation?.(event, trained),
        best: folder?.best(stage.name) ?? (out === undefined ? undefined : othersBest(out, stage.name)),
        saveDue: folder && savingPace(save),
        onSnapshot: ({ tensors, ...facts }, { team: writers }) => {
          if (out === undefined || (!folder && writers.size === 1)) return;
          // The run goes on from this state and has learned nothing since; to write it again would leave none for a moment.
          if (facts.step === state?.step) return;
          const written = { tensors: tensors(), keep: save.keep ?? 2, team: writers };
          const whole = { ...facts, data: fingerprints };
          const path = folder?.save(whole, written) ?? saveState(join(out, ownFolders.states), { ...whole, metricsBytes: 0 }, written);
          report({ event: 'saved', stage: stage.name, step: facts.step, folder: path });
        },
      },
    );
    known = run.features;
    seconds += run.seconds;
    stopped = run.stopped;
    const path = stopped ? undefined : folder?.stageFolder(stage.name);
    const event = {
      event: 'checkpoint',
      stage: stage.name,
      folder: path,
      skippedRows: run.skipped.rows,
      skippedSteps: run.skipped.steps,
      cutRows: run.skipped.cut,
    };
    // Before the folder is there: metrics behind the last state are forgotten when a run is resumed, but not those of stages that are done.
    if (path !== undefined) folder?.append(event);
    const base = bases[index];
    run.masters.restore();
    if (folder && path !== undefined && base !== undefined) {
      await folder.saving(() => saveTrainedAdapter(path, { ...trained, recipe, stage, base }));
    }
    settle(model);
    if (folder && path !== undefined) {
      if (base === undefined) await folder.saving(() => saveTrained(path, { ...trained, recipe }));
      report(event);
      folder.stageDone(stage.name);
    }
    // Others may only go on, or leave, when what they trained is there.
    team.barrier();
    // An adapter is added to the weights of its base as they were stored, not as the stage has rounded them, now as when the run is resumed.
    if (out !== undefined && base !== undefined && !stopped && index + 1 < recipe.stages.length) {
      await reopen(model, recipe, { stage: index + 1, folder: join(out, stage.name), device });
    }
    masters = Masters.behind(model, recipe.precision);
    const earlier = state ? stageSoFar(stage.name, before).steps : [];
    const result = {
      name: stage.name,
      steps: [...earlier, ...run.steps],
      seconds: run.seconds,
      ...(path !== undefined && { folder: path }),
    };
    stages.push(result);
    if (!stopped) await onStageEnd?.(result, trained);
  }
  known?.free();
  return { model, processor, stages, seconds, stopped };
}

/** A stage as metrics.jsonl tells it. */
function stageSoFar(name: string, events: readonly LogEvent[], folder?: string): StageResult {
  const steps = events.filter(({ event, stage }) => event === 'step' && stage === name) as unknown as StepEvent[];
  const [first, last] = [steps[0]?.seconds ?? 0, steps.at(-1)?.seconds ?? 0];
  return { name, steps, seconds: last - first, ...(folder !== undefined && { folder }) };
}

/** Throws ConfigError when the data is not what the state was trained on. */
function checkData({ folder, data }: TrainingState, now: readonly string[]): void {
  const changed = now.filter((line, i) => line !== data[i]);
  if (changed.length === 0 && now.length === data.length) return;
  throw new ConfigError(
    `the data has changed since ${folder} was saved: ${changed.map((line) => line.replace(/: \d+ bytes.*$/, '')).join(', ')}`,
    {
      hint: 'resume with the data that the run was started with, or start a new one with --out',
    },
  );
}

/** Whether a state is to be saved behind a step. */
function savingPace({ steps = Number.POSITIVE_INFINITY, minutes = Number.POSITIVE_INFINITY }: SaveOptions): (step: number) => boolean {
  let last = performance.now();
  return (step) => {
    const due = step % steps === 0 || performance.now() - last >= 60_000 * minutes;
    if (due) last = performance.now();
    return due;
  };
}

/** For each stage whose adapter is kept, the folder of the model from before it. Throws ConfigError where there is none. */
export function adapterBases(
  { model, stages }: Recipe,
  { root, folders }: { root: string; folders: readonly string[] },
): (string | undefined)[] {
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
