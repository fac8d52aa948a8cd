import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CheckpointError, ConfigError } from '../errors.ts';
import type { Module } from '../nn/module.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import { isGguf, openGguf } from '../tensor/gguf.ts';
import { openWeights, type WeightSource, writeSafetensors } from '../tensor/safetensors.ts';
import { parts as everyPart, type Parts, type TinyLlavaConfig } from './config.ts';
import { type KeyRows, languageRows, llavaRows, towerRows, translated } from './dialect.ts';
import { ggufConfig, openGgufWeights } from './gguf.ts';
import { asJson, configFromJson, configToJson, jsonText, visionFromJson } from './hugging-face.ts';
import type { LanguageModel } from './language/language-model.ts';
import type { Json, PartConfig } from './part.ts';
import { pick } from './registry.ts';
import { TinyLlava } from './tinyllava.ts';
import type { VisionTower } from './vision/vision-tower.ts';

/** How weights are taken in: `dtype` converts them, else they keep their own and are memory-mapped without a copy. */
export interface LoadOptions {
  readonly dtype?: DType | undefined;
  readonly device?: Device | undefined;
  readonly parts?: Parts;
}

/** A model and where it came from. */
export interface Checkpoint {
  readonly model: TinyLlava;
  readonly config: TinyLlavaConfig;
  readonly folder: string;
}

async function readJson(path: string): Promise<Json> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const folder = dirname(path);
    const inside = await readdir(folder).catch(() => undefined);
    const models = inside?.filter((name) => existsSync(join(folder, name, basename(path)))).map((name) => join(folder, name)) ?? [];
    throw new CheckpointError(`${folder}: ${inside ? `no ${basename(path)}` : 'no such folder'}`, {
      hint: models.length > 0 ? `the models in it are ${models.join(', ')}` : 'a model is a folder with config.json and *.safetensors',
      cause,
    });
  }
  try {
    return asJson(JSON.parse(text), path);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError(`${path}: not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** The weights of a model folder, or of a GGUF file by Hugging Face's keys. Throws CheckpointError or ConfigError. */
function openModelWeights(path: string): WeightSource {
  return isGguf(path) ? openGgufWeights(path) : openWeights(path);
}

function loadInto(module: Module, folder: string, rows: KeyRows, { dtype, device }: LoadOptions): void {
  const wanted = new Set<string>();
  for (const [key] of module.namedParameters()) wanted.add(key);
  module.load(translated(openModelWeights(folder), rows, wanted), { ...(dtype && { dtype }), ...(device && { device }) });
}

/** The settings in a model folder's config.json, or in a GGUF file. Throws CheckpointError or ConfigError. */
export async function readConfig(folder: string, { parts = everyPart }: { parts?: Parts } = {}): Promise<TinyLlavaConfig> {
  if (isGguf(folder)) return configFromJson(ggufConfig(openGguf(folder)), folder, parts);
  const path = join(folder, 'config.json');
  return configFromJson(await readJson(path), path, parts);
}

/**
 * Opens a Hugging Face folder: a LLaVA in any spelling that transformers ever wrote, one of this package's, or a language model alone; or
 * a language model's GGUF file. Parameters are frozen until `trainable`. Throws CheckpointError or ConfigError.
 */
export async function loadCheckpoint(folder: string, options: LoadOptions = {}): Promise<Checkpoint> {
  const config = await readConfig(folder, options);
  const model = new TinyLlava(config, options.parts);
  loadInto(model, folder, llavaRows, options);
  return { model, config, folder };
}

/** A vision tower and its settings out of its own folder, a CLIP's, a SigLIP's or a LLaVA's. Throws CheckpointError or ConfigError. */
export async function loadVisionTower(
  folder: string,
  { overrides = {}, ...options }: LoadOptions & { overrides?: Json } = {},
): Promise<{ tower: VisionTower; config: PartConfig }> {
  const { visionTowers } = options.parts ?? everyPart;
  const path = join(folder, 'config.json');
  const found = visionFromJson(await readJson(path), path, options.parts);
  const kind = pick(visionTowers, 'vision tower', found.type);
  const config = kind.parse({ ...found, ...overrides }, path);
  const tower = kind.create(config, undefined);
  loadInto(tower, folder, towerRows, options);
  return { tower, config };
}

/** A language model and its settings out of its own folder, its GGUF file or a LLaVA's folder. Throws CheckpointError or ConfigError. */
export async function loadLanguageModel(folder: string, options: LoadOptions = {}): Promise<{ model: LanguageModel; config: PartConfig }> {
  const { languageModels } = options.parts ?? everyPart;
  const { language } = await readConfig(folder, options);
  const model = pick(languageModels, 'language model', language.type).create(language, undefined);
  loadInto(model, folder, languageRows, options);
  return { model, config: language };
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Puts a finished folder in the place of what is there; when that fails, what was there stays. */
async function replaceFolder(draft: string, target: string): Promise<void> {
  if (!(await exists(target))) return rename(draft, target);
  const old = `${draft}.old`;
  await rename(target, old);
  try {
    await rename(draft, target);
  } catch (cause) {
    await rename(old, target);
    throw cause;
  }
  await rm(old, { recursive: true });
}

/**
 * Writes `folder` as a Hugging Face checkpoint: config.json, weights, and `files` by name. Everything is written beside it first and put in
 * its place at the end, so a folder of that name is never half-written. Throws CheckpointError.
 */
export async function saveCheckpoint(
  folder: string,
  model: TinyLlava,
  files: Readonly<Record<string, string | Uint8Array>> = {},
  { parts = everyPart }: { parts?: Parts } = {},
): Promise<void> {
  const target = resolve(folder);
  const { dtype } = model.languageModel.headWeight;
  const config = configToJson(model.config, { dtype, imageTokens: model.imageTokens, parts });
  const draft = join(dirname(target), `.${basename(target)}.${process.pid}.part`);
  try {
    await rm(draft, { recursive: true, force: true });
    await mkdir(draft, { recursive: true });
    await writeFile(join(draft, 'config.json'), jsonText(config));
    for (const [name, content] of Object.entries(files)) {
      if (basename(name) !== name) throw new CheckpointError(`${folder}: the file name "${name}" is not a plain one`);
      await writeFile(join(draft, name), content);
    }
    writeSafetensors(join(draft, 'model.safetensors'), model.namedParameters());
    await replaceFolder(draft, target);
  } catch (cause) {
    await rm(draft, { recursive: true, force: true });
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${folder}: cannot be written: ${(cause as Error).message}`, { cause });
  }
}
