import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../../errors.ts';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { hasWeights, openWeights } from '../../tensor/weight-files.ts';

/** The folders that TinyLLaVA Factory's pre-training leaves, and what stands before their keys in a model that it saves whole. */
const prefixes = { language_model: 'language_model.', vision_tower: 'vision_tower._vision_tower.', connector: 'connector.' };

/** Opens the weights of a model's folder, or of the three folders in it that Factory's pre-training leaves. Throws CheckpointError. */
export function openFolder(folder: string): WeightSource {
  const names = Object.keys(prefixes);
  const there = names.filter((name) => existsSync(join(folder, name)));
  if (hasWeights(folder) || there.length === 0) return openWeights(folder);
  if (existsSync(join(folder, 'adapter_config.json'))) {
    throw new CheckpointError(`${folder}: LoRA adapters beside the weights that they change`, {
      hint: 'merge them with TinyLLaVA Factory and save the model whole',
    });
  }
  const missing = names.filter((name) => !there.includes(name));
  if (missing.length > 0) throw new CheckpointError(`${folder}: no folder ${missing.join(', ')} beside ${there.join(', ')}`);
  const sources = Object.entries(prefixes).map(([name, prefix]) => ({ prefix, weights: openWeights(join(folder, name)) }));
  const find = (key: string): [WeightSource, string] => {
    const source = sources.find(({ prefix }) => key.startsWith(prefix));
    if (!source) throw new CheckpointError(`${folder}: no tensor "${key}"`);
    return [source.weights, key.slice(source.prefix.length)];
  };
  return {
    path: folder,
    names: sources.flatMap(({ prefix, weights }) => weights.names.map((name) => prefix + name)),
    shape: (key) => {
      const [weights, name] = find(key);
      return weights.shape(name);
    },
    dtype: (key) => {
      const [weights, name] = find(key);
      return weights.dtype(name);
    },
    tensor: (key, memory) => {
      const [weights, name] = find(key);
      return weights.tensor(name, memory);
    },
  };
}
