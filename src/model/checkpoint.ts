import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CheckpointError } from '../errors.ts';
import type { Module } from '../nn/module.ts';
import { matchWeights } from '../nn/weights.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { writeWeights } from '../tensor/weight-files.ts';
import { parts as everyPart, type Parts, type TinyLlavaConfig } from './config.ts';
import { type KeyRows, languageRows, llavaRows, towerRows, translated } from './dialect.ts';
import { families } from './families.ts';
import { withDraft } from './folder-draft.ts';
import { configFromJson, configToJson, jsonText, visionFromJson } from './hugging-face.ts';
import type { LanguageModel } from './language/language-model.ts';
import { type ModelFiles, openModelFiles } from './model-files.ts';
import type { Json, PartConfig } from './part.ts';
import { pick } from './registry.ts';
import { TinyLlava } from './tinyllava.ts';
import type { VisionTower } from './vision/vision-tower.ts';

/** How weights are taken in. */
export interface LoadOptions {
  /** Converts them; else they keep their own. */
  readonly dtype?: DType | undefined;
  readonly device?: Device | undefined;
  /**
   * Leaves weights of the CPU that keep their dtype in their files, whose pages are read when they are used and can be given back: a model opens at
   * once, and may be larger than the memory. Otherwise they are read into huge pages, which decoding is quicker from.
   */
  readonly mapped?: boolean | undefined;
  readonly parts?: Parts;
}

/** A model and where it came from. */
export interface Checkpoint {
  readonly model: TinyLlava;
  readonly config: TinyLlavaConfig;
  readonly folder: string;
}

/** The weights of `files` by the names that `module` has for them. */
function weightsFor(module: Module, { weights, rows }: ModelFiles, more: KeyRows): WeightSource {
  const wanted = new Set<string>();
  for (const [key] of module.namedParameters()) wanted.add(key);
  return translated(weights(), [...rows, ...more], wanted);
}

function loadInto(module: Module, files: ModelFiles, more: KeyRows, { dtype, device, mapped = false }: LoadOptions): void {
  module.load(weightsFor(module, files, more), { mapped, ...(dtype && { dtype }), ...(device && { device }) });
}

/** The settings in a model folder's config.json, or in a GGUF file. Throws CheckpointError or ConfigError. */
export async function readConfig(folder: string, { parts = everyPart }: { parts?: Parts } = {}): Promise<TinyLlavaConfig> {
  const { json, file } = await openModelFiles(folder);
  return configFromJson(json, file, parts);
}

/** A model without its weights, of which it is checked that all are there in the right shapes. Throws CheckpointError or ConfigError. */
export async function checkCheckpoint(folder: string, { parts }: { parts?: Parts } = {}): Promise<Checkpoint> {
  const files = await openModelFiles(folder);
  const config = configFromJson(files.json, files.file, parts);
  const model = new TinyLlava(config, parts);
  model.checkWeights(weightsFor(model, files, llavaRows));
  return { model, config, folder };
}

/**
 * Opens a Hugging Face folder: a LLaVA in any spelling that transformers ever wrote, one of this package's, or a language model alone; a
 * folder in one of the layouts of `dialects`; or a language model's GGUF file. Parameters are frozen until `trainable`. Throws
 * CheckpointError or ConfigError.
 */
export async function loadCheckpoint(folder: string, options: LoadOptions = {}): Promise<Checkpoint> {
  const files = await openModelFiles(folder);
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
export async function openCheckpoint(folder: string, { parts = everyPart }: { parts?: Parts } = {}): Promise<OpenCheckpoint> {
  const files = await openModelFiles(folder);
  const config = configFromJson(files.json, files.file, parts);
  const model = new TinyLlava(config, parts);
  const weights = weightsFor(model, files, llavaRows);
  matchWeights(weights, new Map(Array.from(model.namedParameters(), ([key, { shape }]) => [key, shape])), {
    prefix: '',
    into: 'TinyLlava',
  });
  return { model, config, folder, weights };
}

/** A vision tower and its settings out of its own folder, a CLIP's, a SigLIP's or a LLaVA's. Throws CheckpointError or ConfigError. */
export async function loadVisionTower(
  folder: string,
  { overrides = {}, ...options }: LoadOptions & { overrides?: Json } = {},
): Promise<{ tower: VisionTower; config: PartConfig }> {
  const { visionTowers } = options.parts ?? everyPart;
  const files = await openModelFiles(folder);
  const found = visionFromJson(files.json, files.file, options.parts);
  const kind = pick(visionTowers, 'vision tower', found.type);
  const config = kind.parse({ ...found, ...overrides }, files.file);
  const tower = kind.create(config, undefined);
  loadInto(tower, files, towerRows, options);
  return { tower, config };
}

/** A language model and its settings out of its own folder, its GGUF file or a LLaVA's folder. Throws CheckpointError or ConfigError. */
export async function loadLanguageModel(folder: string, options: LoadOptions = {}): Promise<{ model: LanguageModel; config: PartConfig }> {
  const { languageModels } = options.parts ?? everyPart;
  const files = await openModelFiles(folder);
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
  const { dtype } = model.languageModel.headWeight;
  const config = configToJson(model.config, { dtype, imageTokens: model.imageTokens, parts });
  await withDraft(folder, async (draft) => {
    await writeFile(join(draft, 'config.json'), jsonText(config));
    for (const [name, content] of Object.entries(files)) {
      if (basename(name) !== name) throw new CheckpointError(`${folder}: the file name "${name}" is not a plain one`);
      await writeFile(join(draft, name), content);
    }
    const { family } = model.config;
    const key = family ? families[family].key : (name: string) => name;
    const named = Array.from(model.namedParameters(), ([name, tensor]) => [key(name), tensor] as const);
    writeWeights(draft, named, sharding);
  });
}
