import { setImmediate } from 'node:timers/promises';
import { microBatchLimits } from '../data/batch.ts';
import { Loader } from '../data/loader.ts';
import type { RowSource } from '../data/rows.ts';
import { lengthIn, needsSizes, Sampler } from '../data/sampler.ts';
import { DataError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import { memory } from '../tensor/device.ts';
import type { ProcessGroup } from '../tensor/distributed.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { withDropout } from './dropout.ts';
import { LossScale } from './loss-scale.ts';
import { Pace } from './pace.ts';
import { Masters, type Precision, precisions } from './precision.ts';
import type { OptimizerSettings, Stage } from './recipe.ts';
import { Replicas } from './replicas.ts';
import type { BestWeights } from './run-folder.ts';
import { learningRateFactor, type Schedule } from './schedule.ts';
import { Shards } from './shards.ts';
import { layersOf, shareStep } from './share.ts';
import type { StateFacts, TrainingState } from './state.ts';
import { NonFiniteError, type StepFacts, type StepInput, trainStep } from './step.ts';
import { checkEqual, solo, type Team, weightSum } from './team.ts';
import { featuresFor, type TowerFeatures, type TowerFeaturesOptions } from './tower-features.ts';
import { optimizerOf, parameterGroups, tune } from './tune.ts';
import { checkUsable, Progress, type ValidationFacts, validate } from './validation.ts';

/** One step in the log. Steps count from 1; seconds are of training alone, since the start of the first stage. */
export interface StepEvent extends StepFacts {
  readonly event: 'step';
  readonly stage: string;
  readonly step: number;
  readonly steps: number;
  readonly epoch: number;
  /** Conversations that were longer than the stage's `maxLength`. */
  readonly cut: number;
  readonly learningRate: number;
  readonly seconds: number;
  /** How long the step waited for its data. */
  readonly waitedSeconds: number;
  /** Over the last steps. */
  readonly tokensPerSecond: number;
  /** Of this stage. */
  readonly secondsLeft: number;
  /** Resident in this process behind the step. */
  readonly memoryBytes: number;
}

/** One validation in the log. */
export interface ValidationEvent extends ValidationFacts {
  readonly event: 'validation';
  readonly stage: string;
  readonly step: number;
  /** Whether it is the best one so far. */
  readonly best: boolean;
}

/** What a stage trains and on what. */
export interface StageInput {
  readonly stage: Stage;
  readonly model: TinyLlava;
  readonly processor: Processor;
  readonly data: RowSource;
  /** For `stage.validation`. */
  readonly heldOut?: RowSource | undefined;
}

/** Where a stage stands between two steps: all that is needed to go on from there to the same bits. */
interface Snapshot extends Pick<StateFacts, 'stage' | 'step' | 'sampler' | 'lossScale' | 'skipped' | 'seconds' | 'progress'> {
  tensors(): Iterable<readonly [string, Tensor]>;
}

/** How a stage is run; apart from `seed` and `precision` none of it changes what is learned. */
export interface StageOptions {
  readonly seed: number;
  readonly precision: Precision;
  /** Conversations that go through the model at once; as many as `microBatchLimits` says unless given. */
  readonly microBatch?: number | undefined;
  /** Layers are computed again in the backward pass instead of kept. */
  readonly recompute?: boolean;
  /** Threads that load images. */
  readonly workers?: number;
  /** Where a frozen tower's features are kept; nothing of it changes a bit on the CPU. */
  readonly features?: TowerFeaturesOptions;
  /** Features that the stage before left. */
  readonly known?: TowerFeatures | undefined;
  /** Seconds of training before this stage. */
  readonly secondsBefore: number;
  readonly log: Log;
  readonly signal?: AbortSignal;
  /** Goes on from here. */
  readonly state?: TrainingState | undefined;
  readonly onStep: (event: StepEvent) => void | Promise<void> | undefined;
  readonly onValidation?: (event: ValidationEvent) => void | Promise<void> | undefined;
  /** Keeps the weights of the best validation for a stage that is to end with them, and gives them back. */
  readonly best?: BestWeights | undefined;
  /** The other processes that train the same stage: each is given the same input and options, and does its share of each step. */
  readonly group?: ProcessGroup | undefined;
  /** Whether each of them keeps a part of the weights, gradients and what the optimizer remembers, instead of all. */
  readonly sharded?: boolean | undefined;
  /** Whether it is time to save; asked behind every step but the last. */
  readonly saveDue?: ((step: number) => boolean) | undefined;
  /** Called when it is, and when the signal ends the stage. `team` are the ranks that keep parts of the tensors. */
  readonly onSnapshot?: (snapshot: Snapshot, options: { readonly team: Team }) => void;
}

/** What came of a stage; it is `stopped` when the signal ended it early. */
export interface StageRun {
  /** What the frozen tower gave, for the next stage or to be freed. */
  readonly features: TowerFeatures | undefined;
  /** The weights behind the model, which is left in the dtype that it computes in. */
  readonly masters: Masters;
  readonly steps: readonly StepEvent[];
  readonly seconds: number;
  /** Rows that could not be used, steps whose loss was not finite, and rows that were cut. */
  readonly skipped: { readonly rows: number; readonly steps: number; readonly cut: number };
  readonly stopped: boolean;
}

/** Steps of the optimizer that a stage takes over so many rows that it learns from. */
export const stepsOf = ({ steps, epochs = 1, batchSize }: Stage, rows: number): number => steps ?? epochs * Math.ceil(rows / batchSize);

/** The schedule of a stage; a warm-up by ratio is rounded up, as in Hugging Face's Trainer. */
export const scheduleOf = ({ schedule, warmupRatio = 0, warmupSteps, finalRatio }: OptimizerSettings, steps: number): Schedule => ({
  shape: schedule,
  warmupSteps: warmupSteps ?? Math.ceil(warmupRatio * steps),
  steps,
  finalRatio,
});

/** Processed images that are kept for the next epoch: all of a small set, none that matters of a large one. */
const imageCacheBytes = 256 * 2 ** 20;
const now = (): number => performance.now() / 1000;

/** What a token of text takes, more or less. */
const tokenBytes = 4;

/** Steps in a row that may be skipped for a loss that is not finite: behind so many the weights are lost. */
const mostSkipped = 20;

/**
 * Trains the parts that the stage names, from the weights that they have; low-rank changes are left beside their weights, for `settle`. Throws DataError for rows that cannot be used or whose loss is not finite,
 * unless the stage says to skip them.
 */
export async function runStage({ stage, model, processor, data, heldOut }: StageInput, options: StageOptions): Promise<StageRun> {
  const {
    seed,
    precision,
    recompute = false,
    workers,
    features,
    known,
    signal,
    group,
    sharded = false,
    state,
    log,
    onStep,
    saveDue,
    onSnapshot,
  } = options;
  const team: Team = group ?? solo;
  if (heldOut) await checkUsable({ processor, rows: heldOut, stage });
  const skipped = { rows: 0, steps: 0, together: 0, cut: 0, ...state?.skipped };
  const sizes = group || needsSizes(stage.sampling) ? await data.sizes() : undefined;
  const imageBytes = tokenBytes * model.imageTokens;
  const sampler = new Sampler({
    ...stage.sampling,
    parts: data.parts,
    sizes,
    imageBytes,
    batchSize: stage.batchSize,
    seed,
    state: state?.sampler,
  });
  const steps = stepsOf(stage, sampler.count);
  const schedule = scheduleOf(stage.optimizer, steps);
  // Whether the weights come from the stage before or from its checkpoint, which is opened in what they compute in.
  const { compute } = precisions[precision];
  const dropout = tune(model, stage, { seed, dtype: compute });
  const masters = new Masters(model, precision);
  const frozenTower = stage.learns.vision.tune === 'frozen' ? model.visionTower : undefined;
  if (group) checkEqual(group, 'what there is to learn from, or the weights,', [data.length, heldOut?.length, weightSum(model)]);
  const groups = parameterGroups(model, stage);
  const layers = group ? layersOf(model) : [];
  const shards = group && sharded ? new Shards(group, { model, layers, whole: frozenTower, masters }) : undefined;
  const optimizer = optimizerOf({ ...stage.optimizer, masters: shards?.beside ?? masters.beside, seed }, shards?.groups(groups) ?? groups);
  shards?.feed(optimizer);
  using exchange = shards ?? (group && new Replicas(group, { layers, optimizer }));
  /** What was saved, as this process keeps it. */
  const ownOf = (saved: WeightSource): WeightSource => shards?.sliced(saved) ?? saved;
  /** Those who write, each a part. */
  const writers: Team = shards ? team : solo;
  const aligned = shards && model;
  if (state) optimizer.restore(ownOf(state.tensors));
  const lossScale = precision === 'float16' ? new LossScale(state?.lossScale) : undefined;
  // Behind the masters, which put the tower into the dtype that it computes in.
  const towerFeatures = featuresFor(frozenTower, processor.image, {
    features,
    known,
  });
  const encode = towerFeatures && ((images: readonly Uint8Array[]) => towerFeatures.encode(images));
  const { languageModel } = model;
  const microBatch = microBatchLimits(options.microBatch, { languageModel, compute, device: languageModel.headWeight.device, sharded });
  await using loader = new Loader({
    rows: data,
    processor,
    sampler,
    steps: steps - (state?.step ?? 0),
    microBatch,
    maxLength: stage.maxLength,
    cacheBytes: imageCacheBytes,
    unusable: stage.unusableRows,
    encode,
    share: { rank: team.rank, size: team.size, lengthOf: lengthIn(sizes, imageBytes) },
    ...(workers !== undefined && { workers }),
  });
  if (!state) log({ event: 'stage', stage: stage.name, rows: sampler.count, steps, trainable: model.parameterCount({ trainable: true }) });
  const progress = stage.validation && heldOut ? new Progress(stage.validation, state?.progress) : undefined;
  /** Validates when it is time to. Gives why the stage is to end: it has gone on for long enough without getting better, or the signal says so. */
  const checkProgress = async (): Promise<'early' | 'stopped' | undefined> => {
    if (!progress || !stage.validation || !heldOut || (done % stage.validation.every !== 0 && done < steps)) return undefined;
    const facts = await validate({ model, processor, rows: heldOut, stage, microBatch, encode, workers, team, aligned, exchange, signal });
    if (!facts) return 'stopped';
    const event: ValidationEvent = { event: 'validation', stage: stage.name, step: done, ...facts, best: progress.add(facts.loss, done) };
    if (event.best && stage.validation.keep === 'best') options.best?.save(optimizer.weights(), writers);
    log({ ...event });
    await options.onValidation?.(event);
    if (progress.over) log({ event: 'early-stop', stage: stage.name, step: done, best: progress.state.best?.step });
    return progress.over ? 'early' : undefined;
  };
  const run: StepEvent[] = [];
  const pace = new Pace();
  let [done, at, fresh] = [state?.step ?? 0, sampler.state, false];
  let ended: 'early' | 'stopped' | undefined;
  const snapshot = (): Snapshot => ({
    stage: stage.name,
    step: done,
    sampler: at,
    skipped: { ...skipped },
    seconds: options.secondsBefore + pace.seconds,
    ...(lossScale && { lossScale: lossScale.state }),
    ...(progress && { progress: progress.state }),
    tensors: () => optimizer.snapshot(),
  });
  /** undefined when the step was skipped. */
  const attempt = (input: StepInput): StepFacts | undefined => {
    try {
      const { maxGradNorm } = stage.optimizer;
      const dropped = withDropout(input, dropout, { seed, stage: stage.name, step: done, rank: team.rank });
      const factor = learningRateFactor(done, schedule);
      const facts = trainStep(model, optimizer, dropped, {
        factor,
        maxGradNorm,
        recompute: recompute || sharded,
        lossScale,
        team,
        exchange,
      });
      skipped.together = 0;
      return facts;
    } catch (error) {
      if (!(error instanceof NonFiniteError) || stage.nonFiniteLoss === 'stop' || ++skipped.together > mostSkipped) throw error;
      skipped.steps++;
      log({ event: 'skipped-step', stage: stage.name, step: done + 1, reason: error.message });
      return undefined;
    }
  };
  try {
    // A state that was saved in the middle of a validation says nothing of it.
    if (state && done > 0 && progress?.state.last !== done) ended = await checkProgress();
    while (done < steps && !ended) {
      const started = now();
      const read = await loader.next();
      const waitedSeconds = now() - started;
      const step = shareStep(team, read, { stop: signal?.aborted === true, save: fresh && saveDue?.(done) === true, aligned });
      if (step.stop) ended = 'stopped';
      else if (step.save) onSnapshot?.(snapshot(), { team: writers });
      fresh = false;
      if (ended) break;
      at = read.state;
      for (const row of step.skipped) log({ event: 'skipped-row', stage: stage.name, step: done + 1, ...row });
      skipped.rows += step.skipped.length;
      skipped.cut += step.cut;
      // A step of which no row can be used is over at once, so that epochs are what they are called.
      const facts = step.examples > 0 ? attempt(step.input) : undefined;
      pace.add({ tokens: step.tokens, seconds: now() - started });
      done++;
      fresh = true;
      const seen = at.epoch * sampler.count + at.position;
      if (skipped.rows >= seen && (seen >= sampler.count || done === steps)) {
        throw new DataError(`none of the first ${seen} rows of stage ${stage.name} can be used`);
      }
      if (facts) {
        const event: StepEvent = {
          event: 'step',
          stage: stage.name,
          step: done,
          steps,
          epoch: at.epoch + at.position / sampler.count,
          ...facts,
          cut: step.cut,
          learningRate: stage.optimizer.learningRate * learningRateFactor(done - 1, schedule),
          seconds: options.secondsBefore + pace.seconds,
          waitedSeconds,
          tokensPerSecond: pace.tokensPerSecond,
          secondsLeft: pace.secondsFor(steps - done),
          memoryBytes: memory().rssBytes,
        };
        run.push(event);
        log({ ...event });
        await onStep(event);
      }
      // Data that is ready resolves without a turn of the event loop, and signals need one.
      await setImmediate();
      ended = await checkProgress();
    }
    const stopped = ended === 'stopped';
    if (stopped) onSnapshot?.(snapshot(), { team: writers });
    const best = stage.validation?.keep === 'best' ? (progress?.state.best?.step ?? done) : done;
    if (!stopped && best !== done && options.best) {
      team.barrier();
      optimizer.setWeights(ownOf(options.best.open()));
    }
    shards?.join();
    return { features: towerFeatures, masters, steps: run, seconds: pace.seconds, skipped, stopped };
  } finally {
    model.freeze();
    optimizer.free();
  }
}
