import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';
import { openSafetensors, type WeightSource } from './safetensors.ts';
import { openTorchFile } from './torch-file.ts';

const Index = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

const kinds: readonly (readonly [name: string, open: (path: string) => WeightSource])[] = [
  ['model.safetensors', openSafetensors],
  ['pytorch_model.bin', openTorchFile],
];

function openIndexed(folder: string, indexPath: string, open: (path: string) => WeightSource): WeightSource {
  let index: z.output<typeof Index>;
  try {
    index = Index.parse(JSON.parse(readFileSync(indexPath, 'utf8')));
  } catch (cause) {
    throw new CheckpointError(`${indexPath}: not an index of weights`, { cause });
  }
  const files = new Map<string, { readonly weights: WeightSource; readonly names: ReadonlySet<string> }>();
  const sources = new Map<string, WeightSource>();
  for (const [name, fileName] of Object.entries(index.weight_map)) {
    if (basename(fileName) !== fileName) throw new CheckpointError(`${indexPath}: "${fileName}" lies outside the folder`);
    let file = files.get(fileName);
    if (!file) {
      const weights = open(join(folder, fileName));
      file = { weights, names: new Set(weights.names) };
      files.set(fileName, file);
    }
    if (!file.names.has(name)) throw new CheckpointError(`${indexPath}: says that ${fileName} holds "${name}", which it does not`);
    sources.set(name, file.weights);
  }
  const find = (name: string): WeightSource => {
    const found = sources.get(name);
    if (!found) throw new CheckpointError(`${folder}: no tensor "${name}"`);
    return found;
  };
  return {
    path: folder,
    names: [...sources.keys()],
    shape: (name) => find(name).shape(name),
    dtype: (name) => find(name).dtype(name),
    tensor: (name, memory) => find(name).tensor(name, memory),
  };
}

/** Whether a folder has weights under one of the names that `openWeights` knows. */
export const hasWeights = (folder: string): boolean =>
  kinds.some(([name]) => existsSync(join(folder, name)) || existsSync(join(folder, `${name}.index.json`)));

/**
 * Opens `model.safetensors` or `pytorch_model.bin`, or all files that the index of either names, as one; safetensors where a folder has
 * both. Throws CheckpointError.
 */
export function openWeights(folder: string): WeightSource {
  for (const [name, open] of kinds) {
    const path = join(folder, name);
    if (existsSync(path)) return open(path);
    if (existsSync(`${path}.index.json`)) return openIndexed(folder, `${path}.index.json`, open);
  }
  throw new CheckpointError(`${folder}: no weights: none of ${kinds.flatMap(([name]) => [name, `${name}.index.json`]).join(', ')}`);
}
