import { z } from 'zod';
import { modalities, orders } from '../data/sampler.ts';
import { ConfigError, UsageError } from '../errors.ts';
import { connectors } from '../model/connector/index.ts';
import { choice, examine, has } from '../model/explain.ts';
import { languageModels } from '../model/language/index.ts';
import type { PartConfig } from '../model/part.ts';
import { nearest } from '../model/registry.ts';
import { visionTowers } from '../model/vision/index.ts';
import { ImageConfig } from '../processor/image-config.ts';
import { type TemplateName, templates } from '../processor/templates.ts';
import { Tiling } from '../processor/tiling.ts';
import { defaultFrames } from '../processor/video.ts';
import { ownFolders } from './own-folders.ts';
import { type Precision, precisions } from './precision.ts';

/** The parts of a model that a stage can train. */
export const partNames = ['vision', 'connector', 'language'] as const;
export type PartName = (typeof partNames)[number];

const ratio = z.number().min(0).max(1);
const folder = z.string().min(1);

/** A part with fresh weights: its settings, checked by the schema that its `type` has in the registry. */
function fresh(registry: Readonly<Record<string, { readonly schema: z.ZodType }>>): z.ZodType<PartConfig, PartConfig> {
  const Type = z.looseObject({ type: z.enum(Object.keys(registry)) });
  return choice((value) => {
    const { data } = examine(Type, value);
    return ((data && registry[data.type]?.schema) ?? Type) as z.ZodType<PartConfig, PartConfig>;
  });
}

/** A tower's weights from its own folder, a CLIP's, a SigLIP's or a LLaVA's; other keys replace settings, as `featureLayer`. */
const StoredVision = z.looseObject({ from: folder });
/** Weights of CLIP and of DINOv2 from a folder each, as one tower. */
const StoredMof = z.looseObject({
  type: z.literal('mof'),
  clip: z.strictObject({ from: folder }),
  dinov2: z.strictObject({ from: folder }),
});
const StoredLanguage = z.strictObject({ from: folder });
const Vision = choice((value) => {
  if (has(value, 'from')) return StoredVision;
  return has(value, 'clip') && has((value as { clip: unknown }).clip, 'from') ? StoredMof : fresh(visionTowers);
});
// The size of the vocabulary is the tokenizer's unless the recipe says otherwise, so its default must not be filled in.
const Language = choice((value) =>
  has(value, 'from')
    ? StoredLanguage
    : fresh(languageModels).transform(({ vocabSize, ...rest }): PartConfig => (has(value, 'vocabSize') ? { ...rest, vocabSize } : rest)),
);

/** Weights, tokenizer and image settings of a folder that `saveCheckpoint` or transformers wrote. */
const StoredModel = z.strictObject({ from: folder });
const AssembledModel = z.strictObject({ vision: Vision, connector: fresh(connectors), language: Language });
export type AssembledModel = z.output<typeof AssembledModel>;

const ImageSettings = z.strictObject({
  aspect: ImageConfig.shape.aspect.removeDefault().optional(),
  resample: ImageConfig.shape.resample.removeDefault().optional(),
  mean: ImageConfig.shape.mean.removeDefault().optional(),
  std: ImageConfig.shape.std.removeDefault().optional(),
  tiling: Tiling.optional(),
});

/** Every word of the recipe's own data, one id each: for tiny models. */
const WordLevel = z.strictObject({ type: z.literal('word-level'), lowercase: z.boolean().default(false) });
const StoredTokenizer = z.strictObject({ from: folder });

const ProcessorSettings = z.strictObject({
  /** The language model's folder has the tokenizer unless one is named here. */
  tokenizer: choice((value) => (has(value, 'from') ? StoredTokenizer : WordLevel)).optional(),
  /** What differs from the vision tower's folder or, for a fresh tower, from resizing to its size with mean and deviation 0.5. */
  image: ImageSettings.prefault({}),
  /** Frames that a video of the data is sampled to. */
  videoFrames: z.int().positive().default(defaultFrames),
});

const Source = z.strictObject({
  /** LLaVA's JSON, Parquet or tar shards, or images with captions: a file, a folder, or a pattern of shards. */
  conversations: z.string().min(1),
  /** Where the images are that rows name, the folder of the conversations unless said otherwise. */
  images: folder.optional(),
  /** What captions answer, behind their image; the image alone unless given. */
  prompt: z.string().min(1).optional(),
  /** How often each row comes in an epoch; at 0.5 half of them do, the others in the next one. */
  repeat: z.number().positive().default(1),
  /** Instead, its share of an epoch against the other sources'. */
  weight: z.number().positive().optional(),
  /** Only the first so many rows. */
  limit: z.int().positive().optional(),
  /** What is rated lower in a Parquet table is left out, by the name of the quality: questions with their answers, and rows of which none stays. */
  minRatings: z.record(z.string().min(1), z.number()).optional(),
});
export type Source = z.output<typeof Source>;

const learningRate = z.number().positive().optional();
/** The last layer learns at the part's rate, each one before it at this share of the next one's, and what stands before all layers slowest. */
const layerDecay = z.number().positive().max(1).optional();
const Frozen = z.strictObject({ tune: z.literal('frozen') });
const Full = z.strictObject({
  tune: z.literal('full'),
  learningRate,
  layerDecay,
});
/** The layers from this one on, counted from 0; what stands before and behind the layers is frozen. */
const FromLayer = z.strictObject({ tune: z.literal('from-layer'), layer: z.int().nonnegative(), learningRate, layerDecay });

const lowRank = {
  rank: z.int().positive().default(128),
  /** The change counts alpha / rank; twice the rank unless said otherwise. */
  alpha: z.number().positive().optional(),
  dropout: z.number().min(0).lt(1).default(0.05),
  /** Linear layers by the ends of their keys, or by a regular expression for whole keys; all of the part but the head unless said otherwise. */
  targets: z
    .union([z.array(z.string().min(1)).min(1), z.string().refine(isPattern, { error: 'expected a regular expression' })])
    .default('all'),
  /** The change counts alpha / √rank instead. */
  rankStabilized: z.boolean().default(false),
  learningRate,
};
const Lora = z.strictObject({ tune: z.literal('lora'), ...lowRank });
/** LoRA over weights that are frozen in so many bits: NF4, or int8. */
const Qlora = z.strictObject({ tune: z.literal('qlora'), bits: z.literal([4, 8]).default(4), ...lowRank });

function isPattern(text: string): boolean {
  try {
    return new RegExp(text) !== undefined;
  } catch {
    return false;
  }
}

const Tuning = z.discriminatedUnion('tune', [Frozen, Full, FromLayer, Lora, Qlora]);
/** What happens to a part in a stage. A bare name stands for the kind of tuning with its defaults. */
export type Tuning = z.output<typeof Tuning>;
/** Tuning that learns low-rank changes. */
export type LoraTuning = z.output<typeof Lora> | z.output<typeof Qlora>;
export const isLora = (tuning: Tuning): tuning is LoraTuning => tuning.tune === 'lora' || tuning.tune === 'qlora';
const TuningName = z.enum(['frozen', 'full', 'lora', 'qlora']).transform((tune): Tuning => Tuning.parse({ tune }));
const Learns = choice((value) => (typeof value === 'object' ? Tuning : TuningName)).default({ tune: 'frozen' });

const Optimizer = z
  .strictObject({
    /** `muon` is for weights of linear layers, and AdamW for the rest. */
    type: z.enum(['adamw', 'adamw-8bit', 'adafactor', 'muon']).default('adamw'),
    /** Of weights in `bfloat16-pure`: up or down by chance, as it is unless said otherwise, or to the nearest with what is cut off kept beside. */
    rounding: z.enum(['stochastic', 'kahan']).optional(),
    /** Of Muon, 0.95 unless said otherwise. */
    momentum: z.number().min(0).lt(1).optional(),
    /** The peak; a part may have its own. */
    learningRate: z.number().positive(),
    betas: z.tuple([ratio, ratio]).default([0.9, 0.999]),
    eps: z.number().positive().default(1e-8),
    /** Not applied to biases and to the weights of norms. */
    weightDecay: z.number().nonnegative().default(0),
    /** All gradients together are scaled down to this norm; 0 leaves them alone. */
    maxGradNorm: z.number().nonnegative().default(1),
    /** The share of the steps over which the learning rate rises from 0, rounded up. */
    warmupRatio: ratio.optional(),
    warmupSteps: z.int().nonnegative().optional(),
    schedule: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
    /** What is left of the learning rate at the end. */
    finalRatio: ratio.default(0),
  })
  .refine((o) => o.warmupRatio === undefined || o.warmupSteps === undefined, { error: 'give warmupRatio or warmupSteps, not both' })
  .refine(({ type, momentum }) => type === 'muon' || momentum === undefined, { error: 'momentum is for muon alone', path: ['momentum'] });
export type OptimizerSettings = z.output<typeof Optimizer>;

/** Data of one form or another, mixed. */
const SourceList = z
  .array(Source)
  .min(1)
  .refine((sources) => new Set(sources.map(({ weight }) => weight === undefined)).size <= 1, {
    error: 'some have a weight and some have none; give all of them one, or use repeat',
  })
  .refine((sources) => sources.every(({ weight, repeat }) => weight === undefined || repeat === 1), {
    error: 'a weight says how often rows come, leave repeat out',
  });
const Sources = choice((value) => (Array.isArray(value) ? SourceList : Source.transform((source) => [source])));

const Sampling = z
  .strictObject({
    /** `length-grouped` puts rows of like length into one step; `sequential` keeps the order of the files. */
    order: z.enum(orders).default('shuffle'),
    /** `apart`: a step has rows with images or rows without, but for the last ones of an epoch. */
    modalities: z.enum(modalities).default('mixed'),
    /** Rows that are drawn from at a time, for shards that are read one after the other: as many shards are open as have so many rows. */
    buffer: z.int().positive().optional(),
  })
  .refine(({ order, modalities, buffer }) => order !== 'sequential' || (modalities === 'mixed' && buffer === undefined), {
    error: 'rows that keep their order are neither put apart nor drawn from a buffer',
  });
const SamplingOrder = z.enum(orders).transform((order) => Sampling.parse({ order }));

const Validation = z
  .strictObject({
    /** Files of their own. */
    data: Sources.optional(),
    /** So many of the stage's rows, chosen by the seed, which are not learned from then. */
    rows: z.int().positive().optional(),
    /** Steps between two validations; there is one behind the last step too. */
    every: z.int().positive(),
    /** Which weights the stage ends with: those of its last step, or those of the best validation. */
    keep: z.enum(['last', 'best']).default('last'),
    /** The stage ends when so many validations in a row are not better than the best one. */
    patience: z.int().positive().optional(),
    /** Less than this is not better. */
    minImprovement: z.number().nonnegative().default(0),
  })
  .refine((validation) => (validation.data === undefined) !== (validation.rows === undefined), { error: 'give either data or rows' });
export type Validation = z.output<typeof Validation>;

const runFolders = new Set<string>(Object.values(ownFolders));

/** `skip` leaves it out and counts it. */
const Policy = z.enum(['stop', 'skip']).default('stop');

const templateNames = Object.keys(templates) as [TemplateName, ...TemplateName[]];

const Stage = z
  .strictObject({
    /** Also the name of the checkpoint's folder. */
    name: z
      .string()
      .regex(/^[\w-]+$/, { error: 'expected letters, digits, "_" and "-" alone' })
      .refine((name) => !runFolders.has(name), { error: `${[...runFolders].join(', ')} are folders of the run itself` }),
    learns: z
      .strictObject({ vision: Learns, connector: Learns, language: Learns })
      .refine((learns) => partNames.some((part) => learns[part].tune !== 'frozen'), {
        error: 'every part is frozen, so nothing would learn',
      }),
    /** Whether LoRA's changes are added to the weights of the checkpoint, as they are unless said otherwise; else it is an adapter's folder. */
    merge: z.boolean().optional(),
    /** Conversations, mixed. */
    data: Sources,
    /** Which rows come when; a bare name stands for the order. */
    sampling: choice((value) => (typeof value === 'object' ? Sampling : SamplingOrder)).prefault('shuffle'),
    /** How well the stage does on rows that it does not learn from. */
    validation: Validation.optional(),
    /** The chat template by name; that of the model's own folder unless said otherwise. */
    template: z.enum(templateNames).optional(),
    optimizer: Optimizer,
    /** Conversations for one step of the optimizer, over all micro-batches and processes. */
    batchSize: z.int().positive(),
    epochs: z.int().positive().optional(),
    steps: z.int().positive().optional(),
    /** The most tokens of a conversation, those of its images included. */
    maxLength: z.int().positive().default(2048),
    /** What happens to a row that cannot be used: a broken image, a wrong role, nothing to learn. */
    unusableRows: Policy,
    /** What happens to a step whose loss or gradients are not finite. */
    nonFiniteLoss: Policy,
  })
  .refine((stage) => (stage.epochs === undefined) !== (stage.steps === undefined), { error: 'give either epochs or steps' })
  .refine(({ merge, learns }) => merge !== false || partNames.some((part) => isLora(learns[part])), {
    error: 'there is no adapter to keep: no part learns by lora or qlora',
    path: ['merge'],
  });
export type Stage = z.output<typeof Stage>;

/** A whole training run as data. Everything that changes what is learned is in here; micro-batches and devices are not. */
export const Recipe = z
  .strictObject({
    /** Fresh weights and the order of the data follow from it. */
    seed: z.int().nonnegative().default(0),
    /** What layers compute in, and what the weights that learn are kept in. */
    precision: z.enum(Object.keys(precisions) as [Precision, ...Precision[]]).default('float32'),
    model: choice((value) => (has(value, 'from') ? StoredModel : AssembledModel)),
    processor: ProcessorSettings.prefault({}),
    stages: z.array(Stage).min(1),
  })
  .refine(({ model, processor }) => !(has(model, 'from') && processor.tokenizer), {
    error: 'a model that is opened from a folder keeps its tokenizer',
    path: ['processor', 'tokenizer'],
  })
  .refine(({ precision, stages }) => precision === 'bfloat16-pure' || stages.every(({ optimizer }) => optimizer.rounding === undefined), {
    error: 'optimizer.rounding is for precision: bfloat16-pure alone, other weights that learn are kept in float32',
    path: ['stages'],
  })
  .refine(({ stages }) => new Set(stages.map(({ name }) => name)).size === stages.length, {
    error: 'two stages have one name',
    path: ['stages'],
  });
export type Recipe = z.output<typeof Recipe>;
/** A recipe as it is written, with defaults left out. */
export type RecipeInput = z.input<typeof Recipe>;

/** The recipe with every default filled in. Throws ConfigError with one line for each problem. */
export function parseRecipe(recipe: RecipeInput): Recipe {
  const { data, problems } = examine(Recipe, recipe);
  if (data) return data;
  throw new ConfigError(problems.map(({ path, message }) => `${path.map(String).join('.') || 'recipe'}: ${message}`).join('\n'));
}

/** Only the named stages, in the recipe's order. Throws UsageError for a name that no stage has. */
export function selectStages(recipe: Recipe, names: readonly string[]): Recipe {
  const known = recipe.stages.map(({ name }) => name);
  for (const name of names) {
    const guess = nearest(name, known);
    if (known.includes(name)) continue;
    throw new UsageError(`no stage "${name}"`, { hint: `${guess ? `did you mean "${guess}"? ` : ''}stages: ${known.join(', ')}` });
  }
  return { ...recipe, stages: recipe.stages.filter(({ name }) => names.includes(name)) };
}

/** The recipe with the weights, tokenizer and chat template of a checkpoint in place of its own. */
export const startFrom = ({ processor, ...recipe }: Recipe, folder: string): Recipe => ({
  ...recipe,
  model: { from: folder },
  processor: { image: processor.image, videoFrames: processor.videoFrames },
});
