import { CheckpointError } from '../errors.ts';
import type { WeightSource } from '../tensor/safetensors.ts';

/** Weights, and what each is called among others, the same unless said otherwise; undefined leaves it out. */
export interface Renamed {
  readonly weights: WeightSource;
  readonly rename?: (name: string) => string | undefined;
}

/** Several sources as one; of two tensors that get one name the later counts. */
export function united(path: string, sources: readonly Renamed[]): WeightSource {
  const places = new Map<string, { readonly weights: WeightSource; readonly name: string }>();
  for (const { weights, rename = (name: string) => name } of sources) {
    for (const name of weights.names) {
      const key = rename(name);
      if (key !== undefined) places.set(key, { weights, name });
    }
  }
  const find = (key: string): { weights: WeightSource; name: string } => {
    const found = places.get(key);
    if (!found) throw new CheckpointError(`${path}: no tensor "${key}"`);
    return found;
  };
  return {
    path,
    names: [...places.keys()],
    shape: (key) => {
      const { weights, name } = find(key);
      return weights.shape(name);
    },
    dtype: (key) => {
      const { weights, name } = find(key);
      return weights.dtype(name);
    },
    tensor: (key, memory) => {
      const { weights, name } = find(key);
      return weights.tensor(name, memory);
    },
  };
}
