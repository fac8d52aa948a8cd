import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CheckpointError, ConfigError } from '../errors.ts';
import { isGguf, openGguf } from '../tensor/gguf.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { openWeights } from '../tensor/weight-files.ts';
import { type Adapter, isAdapter, llavaTrainables, localBase, openAdapter, type ResolveBase } from './adapter/adapter.ts';
import { adapterConfigFile } from './adapter/config.ts';
import type { KeyRows } from './dialect.ts';
import { isFactoryFolder, openFolder } from './dialects/folder.ts';
import { publishedDialect } from './dialects/index.ts';
import { isLlavaAdapter, llavaParts } from './dialects/llava-adapter.ts';
import type { ProcessorHints } from './dialects/processor-hints.ts';
import type { PublishedDialect } from './dialects/published.ts';
import { ggufConfig, openGgufWeights } from './gguf.ts';
import { asJson } from './hugging-face.ts';
import type { Json } from './part.ts';

/** Where the parts of a model lie that its own folder does not hold. */
export interface OpenOptions {
  /** The folder of a LoRA adapter for this model. */
  readonly adapter?: string | undefined;
  /** The folder that takes the place of the base which an adapter names. */
  readonly base?: string | undefined;
  /** Finds the models that adapters and LLaVA's config.json name; paths alone unless said otherwise. */
  readonly resolve?: ResolveBase | undefined;
}

/** A model's settings and weights, in whatever layout they lie there. */
export interface ModelFiles {
  /** config.json as transformers, or this package, would have written it. */
  readonly json: Json;
  /** Where the settings stand, for messages. */
  readonly file: string;
  /** The weights by their own names. Throws CheckpointError. */
  weights(): WeightSource;
  /** From their names to those of transformers. */
  readonly rows: KeyRows;
  /** What its code knows of images and conversations, for layouts whose files may not say. */
  readonly processor?: ProcessorHints | undefined;
  /** What is added to the weights, in this order. */
  readonly adapters: readonly Adapter[];
  /** Where tokenizer, template and image settings may be: the folder itself, then that of its base. */
  readonly folders: readonly string[];
}

async function readJson(path: string): Promise<Json> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const folder = dirname(path);
    const inside = await readdir(folder).catch(() => undefined);
    const models = inside?.filter((name) => existsSync(join(folder, name, basename(path)))).map((name) => join(folder, name)) ?? [];
    const outside = (cause as NodeJS.ErrnoException).code === 'ENOTDIR' ? 'a file, not a folder' : 'no such folder';
    throw new CheckpointError(`${folder}: ${inside ? `no ${basename(path)}` : outside}`, {
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

/**
 * Opens a model's folder, a language model's GGUF file, or an adapter's folder on top of its base. Throws CheckpointError or ConfigError.
 */
export async function openModelFiles(path: string, options: OpenOptions = {}): Promise<ModelFiles> {
  const { adapter: added, ...others } = options;
  if (added !== undefined) return withAdapterOf(added, await openModelFiles(path, others));
  if (isGguf(path)) {
    return { json: ggufConfig(openGguf(path)), file: path, rows: [], weights: () => openGgufWeights(path), adapters: [], folders: [path] };
  }
  const adapter = isAdapter(path) ? await openAdapter(path) : undefined;
  if (adapter && isLlavaAdapter(path)) return openLlavaAdapter(path, adapter, options);
  if (adapter && !isFactoryFolder(path)) {
    const name = options.base ?? adapter.fields.base_model_name_or_path;
    if (!name) throw new CheckpointError(`${path}: ${adapterConfigFile} names no base`, { hint: 'name its folder as base' });
    const folder = await (options.resolve ?? localBase)(name, path);
    return withAdapterOf(path, await openModelFiles(folder, { resolve: options.resolve }));
  }
  const adapters = adapter ? [adapter] : [];
  const file = join(path, 'config.json');
  const json = await readJson(file);
  const dialect = publishedDialect(json);
  if (!dialect) return { json, file, rows: [], weights: () => openFolder(path), adapters, folders: [path] };
  return { ...readDialect(dialect, json, { weights: openFolder(path), file }), adapters, folders: [path] };
}

async function withAdapterOf(folder: string, files: ModelFiles): Promise<ModelFiles> {
  return { ...files, adapters: [...files.adapters, await openAdapter(folder)], folders: [folder, ...files.folders] };
}

function readDialect(
  dialect: PublishedDialect,
  json: Json,
  { weights: found, file }: { weights: WeightSource; file: string },
): Omit<ModelFiles, 'adapters' | 'folders'> {
  const weights = dialect.adapt?.(found) ?? found;
  const read = dialect.read(json, weights, file);
  return { json: read, file, rows: dialect.rows, weights: () => weights, processor: dialect.processor?.(read, json) };
}

/** LLaVA's LoRA training leaves the adapter, the projector, and config.json, which names the tower; the base is a language model. */
async function openLlavaAdapter(path: string, adapter: Adapter, { base, resolve = localBase }: OpenOptions): Promise<ModelFiles> {
  const file = join(path, 'config.json');
  const json = await readJson(file);
  const dialect = publishedDialect(json);
  const [language, tower] = [base ?? adapter.fields.base_model_name_or_path, json['mm_vision_tower']];
  if (!dialect || !language || typeof tower !== 'string') {
    throw new CheckpointError(
      `${path}: ${llavaTrainables} belongs to a LLaVA, but config.json and ${adapterConfigFile} name no tower and base`,
    );
  }
  const [languageFolder, towerFolder] = [await resolve(language, path), await resolve(tower, path)];
  const weights = llavaParts(openWeights(languageFolder), openWeights(towerFolder));
  return {
    ...readDialect(dialect, json, { weights, file }),
    adapters: [adapter],
    folders: [path, languageFolder],
  };
}
