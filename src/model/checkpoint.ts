import { CheckpointError } from '../errors.ts';
import { loraLayers } from '../nn/lora.ts';
import type { Module } from '../nn/module.ts';
import type { Device } from '../tensor/device.ts';
import { type DType, dtypeBytes, isFloating } from '../tensor/dtype.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { writeWeights } from '../tensor/weight-files.ts';
import { installAdapter, translateAdapter, withAdapter } from './adapter/apply.ts';
import { parts as everyPart, type Parts, type TinyLlavaConfig } from './config.ts';
import { type KeyRows, languageRows, llavaRows, towerRows, translated } from './dialect.ts';
import { families } from './families.ts';
import { withDraft, writeFiles } from './folder-draft.ts';
import { configFromJson, configToJson, jsonText, visionFromJson } from './hugging-face.ts';
import type { LanguageModel } from './language/language-model.ts';
import { type ModelFiles, type OpenOptions, openModelFiles } from './model-files.ts';
import type { Json, PartConfig } from './part.ts';
import { pick } from './registry.ts';
import { TinyLlava } from './tinyllava.ts';
import { joinMof, type LoadedTower } from './vision/mof.ts';

/** How weights are taken in. */
export interface LoadOptions extends OpenOptions {
  /** Converts them, each to its own where this goes by their keys; else they keep theirs, or get the widest of several. */
  readonly dtype?: DType | ((key: string) => DType) | undefined;
  readonly device?: Device | undefined;
  /**
   * Leaves weights of the CPU that keep their dtype in their files, whose pages are read when they are used and can be given back: a model opens at
   * once, and may be larger than the memory. Otherwise they are read into huge pages, which decoding is quicker from.
   */
  readonly mapped?: boolean | undefined;
  readonly parts?: Parts;
  /** The last adapter stays beside the weights, to go on learning, instead of being added to them. */
  readonly keepAdapter?: boolean | undefined;
}

/** A model and where it came from. */
export interface Checkpoint {
  readonly model: TinyLlava;
  readonly config: TinyLlavaConfig;
  readonly folder: string;
}

/** The weights of `files` by the names that `module` has for them, adapters included; with `keepAdapter` the last one is left to be installed. */
function weightsFor(module: Module, { weights, rows, adapters }: ModelFiles, more: KeyRows, { dtype, keepAdapter }: LoadOptions = {}) {
  const wanted = new Set<string>();
  for (const [key] of module.namedParameters()) wanted.add(key);
  const spelling = [...rows, ...more];
  const added = adapters.map((adapter) => translateAdapter(adapter, spelling, wanted));
  const kept = keepAdapter ? added.at(-1) : undefined;
  const base = translated(weights(), spelling, wanted);
  const asked = dtype ?? widest(base, wanted);
  const merge = (before: WeightSource, adapter: (typeof added)[number]): WeightSource =>
    withAdapter(before, adapter, { dtype: asked, factors: adapter !== kept });
  return { source: added.reduce(merge, base), kept, asked };
}

function loadInto(module: Module, files: ModelFiles, more: KeyRows, options: LoadOptions): void {
  const { device, mapped = false } = options;
  const { source, kept, asked } = weightsFor(module, files, more, options);
  module.load(source, { mapped, ...(asked && { dtype: asked }), ...(device && { device }) });
  if (kept) installAdapter(module, kept, { device });
}

/** Training in bfloat16 keeps what learned in float32 and what was frozen not, but a model computes in one dtype. */
function widest(source: WeightSource, wanted: ReadonlySet<string>): DType | undefined {
  const dtypes = new Set(source.names.filter((name) => wanted.has(name)).map((name) => source.dtype(name)));
  const floats = [...dtypes].filter(isFloating);
  return floats.length > 1 ? floats.sort((a, b) => dtypeBytes(b) - dtypeBytes(a))[0] : undefined;
}

/** The settings in a model folder's config.json, or in a GGUF file. Throws CheckpointError or ConfigError. */
export async function readConfig(
  folder: string,
  { parts = everyPart, ...options }: OpenOptions & { parts?: Parts } = {},
): Promise<TinyLlavaConfig> {
  const { json, file } = await openModelFiles(folder, options);
  return configFromJson(json, file, parts);
}

/**
 * Opens a Hugging Face folder: a LLaVA in any spelling that transformers ever wrote, one of this package's, or a language model alone; a
 * folder in one of the layouts of `dialects`; a language model's GGUF file; or a LoRA adapter's folder, with its base. Parameters are frozen until `trainable`. Throws
 * CheckpointError or ConfigError.
 */
export async function loadCheckpoint(folder: string, options: LoadOptions = {}): Promise<Checkpoint> {
  const files = await openModelFiles(folder, options);
  const config = configFromJson(files.json, files.file, options.parts);
  const model = new TinyLlava(config, options.parts);
  loadInto(model, files, llavaRows, options);
  return { model, config, folder };
}

/** A model whose parameters are shapes alone, and the weights that fit them, of which nothing is read yet. */
export interface OpenCheckpoint extends Checkpoint {
  readonly weights: WeightSource;
}

/** Opens what `loadCheckpoint` loads without reading weights, for work on one tensor after another. Throws CheckpointError or ConfigError. */
export async function openCheckpoint(
  folder: string,
  { parts = everyPart, ...options }: OpenOptions & { parts?: Parts } = {},
): Promise<OpenCheckpoint> {
  const files = await openModelFiles(folder, options);
  const config = configFromJson(files.json, files.file, parts);
  const model = new TinyLlava(config, parts);
  const { source: weights } = weightsFor(model, files, llavaRows);
  model.checkWeights(weights);
  return { model, config, folder, weights };
}

/** Puts the weights of a checkpoint into a model that is there, made from the same settings. Throws CheckpointError or ConfigError. */
export async function loadWeights(model: TinyLlava, folder: string, options: LoadOptions = {}): Promise<void> {
  loadInto(model, await openModelFiles(folder, options), llavaRows, options);
}

/** A vision tower and its settings out of its own folder, a CLIP's, a SigLIP's or a LLaVA's. Throws CheckpointError or ConfigError. */
export async function loadVisionTower(
  folder: string,
  { overrides = {}, ...options }: LoadOptions & { overrides?: Json } = {},
): Promise<LoadedTower> {
  const { visionTowers } = options.parts ?? everyPart;
  const files = await openModelFiles(folder, options);
  const found = visionFromJson(files.json, files.file, options.parts);
  const kind = pick(visionTowers, 'vision tower', found.type);
  const config = kind.parse({ ...found, ...overrides }, files.file);
  const tower = kind.create(config, undefined);
  loadInto(tower, files, towerRows, options);
  return { tower, config };
}

/**
 * CLIP and DINOv2 as one tower, each out of its own folder; DINOv2 gets images of CLIP's size. `overrides` are settings of both. Throws CheckpointError or
 * ConfigError.
 */
export async function loadMofTower(
  folders: { readonly clip: string; readonly dinov2: string },
  { overrides = {}, ...options }: LoadOptions & { overrides?: Json } = {},
): Promise<LoadedTower> {
  const clip = await loadVisionTower(folders.clip, { overrides, ...options });
  const dinov2 = await loadVisionTower(folders.dinov2, { overrides: { ...overrides, inputSize: clip.tower.imageSize }, ...options });
  return joinMof({ clip, dinov2 }, overrides);
}

/** A language model and its settings out of its own folder, its GGUF file or a LLaVA's folder. Throws CheckpointError or ConfigError. */
export async function loadLanguageModel(folder: string, options: LoadOptions = {}): Promise<{ model: LanguageModel; config: PartConfig }> {
  const { languageModels } = options.parts ?? everyPart;
  const files = await openModelFiles(folder, options);
  const { language } = configFromJson(files.json, files.file, options.parts);
  const model = pick(languageModels, 'language model', language.type).create(language, undefined);
  loadInto(model, files, languageRows, options);
  return { model, config: language };
}

/**
 * Writes `folder` as a Hugging Face checkpoint: config.json, weights, and `files` by name; weights beyond `maxShardBytes`, 5 GB unless said
 * otherwise, in shards. Everything is written beside it first and put in its place at the end, so a folder of that name is never
 * half-written. Throws CheckpointError.
 */
export async function saveCheckpoint(
  folder: string,
  model: TinyLlava,
  files: Readonly<Record<string, string | Uint8Array>> = {},
  { parts = everyPart, ...sharding }: { parts?: Parts; maxShardBytes?: number } = {},
): Promise<void> {
  const [adapted] = loraLayers(model).keys();
  if (adapted !== undefined) {
    throw new CheckpointError(`${folder}: ${adapted} has a LoRA adapter that is not merged`, {
      hint: 'call mergeLora first, or saveAdapter',
    });
  }
  const tensors = [...model.namedParameters()];
  const dtype = tensors.some(([, tensor]) => tensor.dtype === 'float32') ? 'float32' : model.languageModel.headWeight.dtype;
  const config = configToJson(model.config, { dtype, imageTokens: model.imageTokens, parts });
  const { family } = model.config;
  const key = family ? families[family].key : (name: string) => name;
  const named = tensors.map(([name, tensor]) => [key(name), tensor] as const);
  await withDraft(folder, async (draft) => {
    await writeFiles(draft, { ...files, 'config.json': jsonText(config) }, folder);
    writeWeights(draft, named, sharding);
  });
}
