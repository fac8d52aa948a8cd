import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';
import { openSafetensors, type WeightSource, writeSafetensors } from './safetensors.ts';
import type { Tensor } from './tensor.ts';
import { openTorchFile } from './torch-file.ts';

const Index = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

const kinds: readonly (readonly [name: string, open: (path: string) => WeightSource])[] = [
  ['model.safetensors', openSafetensors],
  ['pytorch_model.bin', openTorchFile],
];

function openIndexed(folder: string, indexPath: string, open: (path: string) => WeightSource): WeightSource {
  const hint = 'fetch the index and all its files again, from one revision';
  let index: z.output<typeof Index>;
  try {
    index = Index.parse(JSON.parse(readFileSync(indexPath, 'utf8')));
  } catch (cause) {
    throw new CheckpointError(`${indexPath}: not an index of weights`, { hint, cause });
  }
  const files = new Map<string, { readonly weights: WeightSource; readonly names: ReadonlySet<string> }>();
  const sources = new Map<string, WeightSource>();
  for (const [name, fileName] of Object.entries(index.weight_map)) {
    if (basename(fileName) !== fileName) throw new CheckpointError(`${indexPath}: "${fileName}" lies outside the folder`, { hint });
    let file = files.get(fileName);
    if (!file) {
      const path = join(folder, fileName);
      if (!existsSync(path)) throw new CheckpointError(`${indexPath}: names ${fileName}, which is not there`, { hint });
      const weights = open(path);
      file = { weights, names: new Set(weights.names) };
      files.set(fileName, file);
    }
    if (!file.names.has(name))
      throw new CheckpointError(`${indexPath}: says that ${fileName} holds "${name}", which it does not`, { hint });
    sources.set(name, file.weights);
  }
  for (const [fileName, { weights, names }] of files) {
    for (const name of names) {
      const other = sources.get(name);
      if (other && other !== weights)
        throw new CheckpointError(`${indexPath}: both ${basename(other.path)} and ${fileName} hold "${name}"`, { hint });
    }
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
  throw new CheckpointError(`${folder}: no weights: none of ${kinds.flatMap(([name]) => [name, `${name}.index.json`]).join(', ')}`, {
    hint: 'fetch the weights of the model, or save it again',
  });
}

/** The size beyond which weights are written in several files, as transformers long did. */
const shardBytes = 5e9;

/** Tensors in their order, so many together as `maxBytes` takes; one that is larger stands alone. */
function shards(tensors: Iterable<readonly [string, Tensor]>, maxBytes: number): (readonly [string, Tensor])[][] {
  const found: (readonly [string, Tensor])[][] = [[]];
  let bytes = 0;
  for (const row of tensors) {
    const last = found.at(-1) ?? [];
    if (last.length > 0 && bytes + row[1].bytes > maxBytes) {
      found.push([row]);
      bytes = 0;
    } else last.push(row);
    bytes += row[1].bytes;
  }
  return found;
}

/**
 * Writes `model.safetensors` or, where that would be larger than `maxShardBytes`, `model-00001-of-0000N.safetensors` and so on with
 * `model.safetensors.index.json`, as transformers names them. Throws CheckpointError.
 */
export function writeWeights(
  folder: string,
  tensors: Iterable<readonly [string, Tensor]>,
  { maxShardBytes = shardBytes }: { maxShardBytes?: number } = {},
): void {
  const parts = shards(tensors, maxShardBytes);
  const number = (value: number): string => String(value).padStart(5, '0');
  const map: [name: string, file: string][] = [];
  let [values, bytes] = [0, 0];
  for (const [i, part] of parts.entries()) {
    const file = parts.length === 1 ? 'model.safetensors' : `model-${number(i + 1)}-of-${number(parts.length)}.safetensors`;
    writeSafetensors(join(folder, file), part);
    for (const [name, tensor] of part) {
      map.push([name, file]);
      values += tensor.numel;
      bytes += tensor.bytes;
    }
  }
  const metadata = { total_parameters: values, total_size: bytes };
  const index = { metadata, weight_map: Object.fromEntries(map.sort(([a], [b]) => (a < b ? -1 : 1))) };
  if (parts.length > 1) writeFileSync(join(folder, 'model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`, { flush: true });
}
