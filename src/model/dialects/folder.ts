import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../../errors.ts';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { hasWeights, openWeights } from '../../tensor/weight-files.ts';
import { united } from '../united.ts';

/** The folders that TinyLLaVA Factory's pre-training leaves, and what stands before their keys in a model that it saves whole. */
const prefixes = { language_model: 'language_model.', vision_tower: 'vision_tower._vision_tower.', connector: 'connector.' };

/** Whether the weights lie in the three folders that Factory's pre-training and its LoRA training leave. */
export const isFactoryFolder = (folder: string): boolean =>
  !hasWeights(folder) && Object.keys(prefixes).some((name) => existsSync(join(folder, name)));

/** Opens the weights of a model's folder, or of Factory's three folders in it. Throws CheckpointError. */
export function openFolder(folder: string): WeightSource {
  const names = Object.keys(prefixes);
  const there = names.filter((name) => existsSync(join(folder, name)));
  if (hasWeights(folder) || there.length === 0) return openWeights(folder);
  const missing = names.filter((name) => !there.includes(name));
  if (missing.length > 0) throw new CheckpointError(`${folder}: no folder ${missing.join(', ')} beside ${there.join(', ')}`);
  // PEFT calls what it changes base_layer, and Factory saves it so.
  return united(
    folder,
    Object.entries(prefixes).map(([name, prefix]) => ({
      weights: openWeights(join(folder, name)),
      rename: (key) => prefix + key.replace(/\.base_layer\./, '.'),
    })),
  );
}
