import { setImmediate } from 'node:timers/promises';
import type { Mixture } from '../data/dataset.ts';
import { Loader } from '../data/loader.ts';
import { Sampler } from '../data/sampler.ts';
import type { Log } from '../log.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import { withDropout } from './dropout.ts';
import { AdamW } from './optimizer.ts';
import { Pace } from './pace.ts';
import type { OptimizerSettings, Stage } from './recipe.ts';
import { learningRateFactor, type Schedule } from './schedule.ts';
import { type StepFacts, trainStep } from './step.ts';
import { featuresFor, type TowerFeatures, type TowerFeaturesOptions } from './tower-features.ts';
import { parameterGroups, tune } from './tune.ts';

/** One step in the log. Steps count from 1; seconds are of training alone, since the start of the first stage. */
export interface StepEvent extends StepFacts {
  readonly event: 'step';
  readonly stage: string;
  readonly step: number;
  readonly steps: number;
  readonly epoch: number;
  readonly learningRate: number;
  readonly seconds: number;
  /** How long the step waited for its data. */
  readonly waitedSeconds: number;
  /** Over the last steps. */
  readonly tokensPerSecond: number;
  /** Of this stage. */
  readonly secondsLeft: number;
}

/** What a stage trains and on what. */
export interface StageInput {
  readonly stage: Stage;
  readonly model: TinyLlava;
  readonly processor: Processor;
  readonly data: Mixture;
}

/** How a stage is run; none of it changes what is learned. */
export interface StageOptions {
  readonly seed: number;
  /** Conversations that go through the model at once. */
  readonly microBatch?: number;
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
  readonly onStep: (event: StepEvent) => void | Promise<void> | undefined;
}

/** What came of a stage; it is `stopped` when the signal ended it early. */
export interface StageRun {
  /** What the frozen tower gave, for the next stage or to be freed. */
  readonly features: TowerFeatures | undefined;
  readonly steps: readonly StepEvent[];
  readonly seconds: number;
  readonly stopped: boolean;
}

/** Steps of the optimizer that a stage takes over so many rows. */
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

/** Trains the parts that the stage names; low-rank changes are left beside their weights, for `settle`. Throws DataError for rows that cannot be used or whose loss is not finite. */
export async function runStage({ stage, model, processor, data }: StageInput, options: StageOptions): Promise<StageRun> {
  const { seed, microBatch = stage.batchSize, recompute = false, workers, features, known, log, signal, onStep } = options;
  const sampler = new Sampler({ count: data.length, batchSize: stage.batchSize, seed });
  const steps = stepsOf(stage, data.length);
  const schedule = scheduleOf(stage.optimizer, steps);
  const dropout = tune(model, stage, { seed });
  const optimizer = new AdamW(parameterGroups(model, stage), stage.optimizer);
  const towerFeatures = featuresFor(stage.learns.vision.tune === 'frozen' ? model.visionTower : undefined, processor.image, {
    features,
    known,
  });
  await using loader = new Loader({
    rows: data,
    processor,
    sampler,
    microBatch: { examples: microBatch },
    maxLength: stage.maxLength,
    cacheBytes: imageCacheBytes,
    encode: towerFeatures && ((images) => towerFeatures.encode(images)),
    log,
    ...(workers !== undefined && { workers }),
  });
  log({ event: 'stage', stage: stage.name, rows: data.length, steps, trainable: model.parameterCount({ trainable: true }) });
  const run: StepEvent[] = [];
  const pace = new Pace();
  try {
    for (let step = 0; step < steps && !signal?.aborted; step++) {
      const started = now();
      const input = await loader.next();
      const waitedSeconds = now() - started;
      const factor = learningRateFactor(step, schedule);
      const facts = trainStep(model, optimizer, withDropout(input, dropout, { seed, stage: stage.name, step }), {
        factor,
        maxGradNorm: stage.optimizer.maxGradNorm,
        recompute,
      });
      pace.add({ tokens: facts.tokens, seconds: now() - started });
      const event: StepEvent = {
        event: 'step',
        stage: stage.name,
        step: step + 1,
        steps,
        epoch: input.state.epoch + input.state.position / data.length,
        ...facts,
        learningRate: stage.optimizer.learningRate * factor,
        seconds: options.secondsBefore + pace.seconds,
        waitedSeconds,
        tokensPerSecond: pace.tokensPerSecond,
        secondsLeft: pace.secondsFor(steps - step - 1),
      };
      run.push(event);
      log({ ...event });
      await onStep(event);
      // Data that is ready resolves without a turn of the event loop, and signals need one.
      await setImmediate();
    }
  } finally {
    model.freeze();
    optimizer.free();
  }
  return { features: towerFeatures, steps: run, seconds: pace.seconds, stopped: run.length < steps };
}
