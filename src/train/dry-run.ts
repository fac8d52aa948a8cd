import { existsSync } from 'node:fs';
import { microBatchLimits, supervisedTokens } from '../data/batch.ts';
import type { LeftOut, Row, RowSource } from '../data/rows.ts';
import { Sampler } from '../data/sampler.ts';
import { epochRows } from '../data/shares.ts';
import { ConfigError, DataError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import { build } from './build.ts';
import { type BeyondContext, beyondContext, checkStages } from './check.ts';
import { estimateMemory, type MemoryEstimate } from './memory.ts';
import { precisions } from './precision.ts';
import { type PartName, parseRecipe, partNames, type Recipe, type RecipeInput, type Stage } from './recipe.ts';
import { checkSeveral } from './shardable.ts';
import { scheduleOf, stepsOf } from './stage.ts';
import { StageData } from './stage-data.ts';
import { adapterBases, type TrainOptions } from './trainer.ts';
import { partsOf, trainableOf } from './tune.ts';

/** One part of the model as the recipe makes it. */
export interface PartFacts {
  readonly type: string;
  readonly parameters: number;
  /** What goes in and comes out for one image or one sequence of T tokens. */
  readonly shape: string;
}

/** What a sample of a stage's conversations looks like in tokens. */
export interface SampleFacts {
  readonly rows: number;
  /** Rows beside them that cannot be used, where the stage says to skip these. */
  readonly unusable: number;
  readonly images: number;
  readonly meanTokens: number;
  readonly maxTokens: number;
  readonly meanSupervised: number;
  /** Conversations that are cut to maxLength. */
  readonly cut: number;
}

/** What a stage would do. */
export interface StageFacts {
  readonly name: string;
  readonly rows: number;
  /** By ratings, of sources that have least ones. */
  readonly leftOut?: LeftOut;
  readonly beyondContext?: BeyondContext;
  readonly steps: number;
  readonly warmupSteps: number;
  readonly trainable: Readonly<Record<PartName, number>>;
  readonly sample: SampleFacts;
  readonly memory: MemoryEstimate;
}

/** Everything that a dry run found out. */
export interface DryRun {
  readonly recipe: Recipe;
  readonly parts: Readonly<Record<PartName, PartFacts>>;
  readonly parameters: number;
  readonly stages: readonly StageFacts[];
}

/** How the run would be launched. */
export interface DryRunOptions extends Pick<TrainOptions, 'root' | 'device' | 'microBatch' | 'recompute' | 'sharded' | 'log' | 'signal'> {
  readonly processes?: number;
}

const sampled = 256;
const decoded = 16;

/**
 * Opens data and weights and builds the model without training it; fresh weights take no memory. Throws what training would: ConfigError,
 * CheckpointError, or DataError for a sampled row that cannot be used, unless the stage says to skip it.
 */
export async function dryRun(
  input: RecipeInput,
  { root = '.', device = 'cpu', microBatch, recompute = false, processes = 1, sharded = false, log, signal }: DryRunOptions = {},
): Promise<DryRun> {
  const recipe = parseRecipe(input);
  if (sharded) checkSeveral(processes);
  adapterBases(recipe, { root, folders: recipe.stages.map(({ name }) => name) });
  const { model, processorFor } = await build(recipe, { root, device, initialize: false, log, signal });
  await checkStages(recipe, { model, root, sharded });
  const { languageModel } = model;
  const { compute } = precisions[recipe.precision];
  const stages: StageFacts[] = [];
  for (const stage of recipe.stages) {
    using opened = await StageData.open(stage, { root, seed: recipe.seed });
    const { whole, rows: learned, heldOut } = opened;
    const processor = processorFor(stage);
    const sampling = { model, stage, what: `stage ${stage.name}` };
    const sample = await sampleOf(learned, processor, sampling);
    if (heldOut) await sampleOf(heldOut, processor, { ...sampling, what: `stage ${stage.name}: validation` }); // for what it throws
    const own = Math.ceil(stage.batchSize / processes);
    const { examples, tokens = Number.POSITIVE_INFINITY } = microBatchLimits(microBatch, { languageModel, compute, device, sharded });
    const together = Math.min(own, examples, Math.max(1, Math.floor(tokens / sample.meanTokens)));
    const packed = {
      tokens: together * sample.meanTokens,
      rowTokens: sample.meanTokens,
      supervised: together * sample.meanSupervised,
      accumulates: together < own,
      images: (together * sample.images) / sample.rows,
      recompute,
      precision: recipe.precision,
      processes,
      sharded,
    };
    const rows = epochRows(learned.parts);
    const steps = stepsOf(stage, rows);
    const beyond = beyondContext(model, stage);
    stages.push({
      name: stage.name,
      rows,
      ...(whole.leftOut && { leftOut: whole.leftOut }),
      ...(beyond && { beyondContext: beyond }),
      steps,
      warmupSteps: scheduleOf(stage.optimizer, steps).warmupSteps,
      trainable: trainableOf(model, stage),
      sample,
      memory: estimateMemory(model, stage, packed),
    });
  }
  return { recipe, parts: partFacts(model), parameters: model.parameterCount(), stages };
}

function partFacts(model: TinyLlava): Record<PartName, PartFacts> {
  const { visionTower, languageModel, imageTokens, config } = model;
  const [side, tokens, features] = [visionTower?.imageSize, visionTower?.tokens, visionTower?.hiddenSize];
  const width = languageModel.hiddenSize;
  const shapes: Record<PartName, string> = {
    vision: `[3, ${side}, ${side}] to [${tokens}, ${features}]`,
    connector: `[${tokens}, ${features}] to [${imageTokens}, ${width}]`,
    language: `[T, ${width}] to [T, ${languageModel.vocabSize}]`,
  };
  const parts = partsOf(model);
  const facts = (part: PartName): PartFacts => ({
    type: config[part]?.type ?? 'none',
    parameters: parts[part]?.parameterCount() ?? 0,
    shape: shapes[part],
  });
  return Object.fromEntries(partNames.map((part) => [part, facts(part)])) as Record<PartName, PartFacts>;
}

/** Reads the rows that an epoch may begin with, in its mix and with few shards open; the images of the first ones are decoded, the others have to be there. */
async function sampleOf(
  data: RowSource,
  processor: Processor,
  { model, stage, what }: { model: TinyLlava; stage: Stage; what: string },
): Promise<SampleFacts> {
  const taken = new Sampler({ parts: data.parts, batchSize: sampled, seed: 0 }).next();
  const seen: Sampled[] = [];
  for (const [i, index] of taken.entries()) {
    try {
      seen.push(await readSample(await data.row(index), processor, { model, maxLength: stage.maxLength, decode: i < decoded }));
    } catch (error) {
      if (!(error instanceof DataError) || stage.unusableRows === 'stop') throw error;
    }
  }
  const rows = seen.length;
  if (rows === 0) throw new DataError(`${what}: none of ${taken.length} sampled rows can be used`);
  const sum = (key: 'tokens' | 'supervised' | 'images'): number => seen.reduce((total, sample) => total + sample[key], 0);
  return {
    rows,
    unusable: taken.length - rows,
    images: sum('images'),
    meanTokens: sum('tokens') / rows,
    maxTokens: Math.max(...seen.map(({ tokens }) => tokens)),
    meanSupervised: sum('supervised') / rows,
    cut: seen.filter((sample) => sample.cut).length,
  };
}

interface Sampled {
  readonly tokens: number;
  readonly supervised: number;
  readonly images: number;
  readonly cut: boolean;
}

interface SampleOptions {
  readonly model: TinyLlava;
  readonly maxLength: number;
  readonly decode: boolean;
}

async function readSample(row: Row, processor: Processor, options: SampleOptions): Promise<Sampled> {
  try {
    return await measured(row, processor, options);
  } catch (cause) {
    if (!(cause instanceof DataError)) throw cause;
    throw new DataError(`${row.name}: ${cause.message}`, { cause, ...(cause.hint !== undefined && { hint: cause.hint }) });
  }
}

async function measured({ name, messages }: Row, processor: Processor, { model, maxLength, decode }: SampleOptions): Promise<Sampled> {
  const whole = await processor.read(messages, { train: true });
  const { ids, labels, images } = processor.truncate(whole, maxLength);
  const supervised = supervisedTokens(labels);
  if (supervised === 0) {
    throw new DataError(`nothing is learned from its ${ids.length} tokens`, {
      hint: 'raise maxLength if it is cut before the answer, or remove the row',
    });
  }
  const { vocabSize } = model.languageModel;
  const strange = ids.find((id) => id >= vocabSize && id !== processor.imageTokenId);
  if (strange !== undefined) {
    throw new ConfigError(`${name}: the tokenizer gives the id ${strange}, but the language model has ${vocabSize}`, {
      hint: 'name the tokenizer of this language model in the recipe',
    });
  }
  for (const { source, layout } of images) {
    if (decode) await processor.image.loadBytes(source, layout);
    else if (typeof source === 'string' && !source.startsWith('data:') && !existsSync(source))
      throw new DataError(`${source} does not exist`);
  }
  return { tokens: ids.length, supervised, images: images.length, cut: whole.ids.length > ids.length };
}
