import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CheckpointError, ConfigError } from '../errors.ts';
import { isGguf, openGguf } from '../tensor/gguf.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import type { KeyRows } from './dialect.ts';
import { openFolder } from './dialects/folder.ts';
import { publishedDialect } from './dialects/index.ts';
import type { ProcessorHints } from './dialects/processor-hints.ts';
import { ggufConfig, openGgufWeights } from './gguf.ts';
import { asJson } from './hugging-face.ts';
import type { Json } from './part.ts';

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

/** Opens a model's folder, or a language model's GGUF file. Throws CheckpointError or ConfigError. */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  if (isGguf(path)) return { json: ggufConfig(openGguf(path)), file: path, rows: [], weights: () => openGgufWeights(path) };
  const file = join(path, 'config.json');
  const json = await readJson(file);
  const dialect = publishedDialect(json);
  if (!dialect) return { json, file, rows: [], weights: () => openFolder(path) };
  const found = openFolder(path);
  const weights = dialect.adapt?.(found) ?? found;
  const read = dialect.read(json, weights, file);
  return { json: read, file, rows: dialect.rows, weights: () => weights, processor: dialect.processor?.(read, json) };
}
