import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { openTorchFile } from '../../tensor/torch-file.ts';
import { bareName, isAdapter } from '../adapter/adapter.ts';
import { towerPrefix } from './llava.ts';
import { countLayers } from './published.ts';
import { united } from './united.ts';

/** What LLaVA's LoRA training learned as a whole: the projector, and embeddings where it has tokens of its own. */
export const llavaTrainables = 'non_lora_trainables.bin';

/** Whether a folder is what LLaVA's LoRA training leaves. */
export const isLlavaAdapter = (folder: string): boolean => isAdapter(folder) && existsSync(join(folder, llavaTrainables));

/** Opens the weights beside the adapter. Throws CheckpointError. */
export const openLlavaTrainables = (folder: string): WeightSource => openTorchFile(join(folder, llavaTrainables));

/** A language model, a tower out of its own folder or a whole CLIP or SigLIP, and what was learned, under the names of a LLaVA saved whole. */
export function llavaParts(language: WeightSource, tower: WeightSource, learned: WeightSource): WeightSource {
  const layers = countLayers(tower, 'vision_model.encoder.layers.');
  // TinyLLaVABench cuts a SigLIP before its last layer and takes off its head.
  const cut = tower.names.some((name) => name.startsWith('vision_model.head.')) ? `vision_model.encoder.layers.${layers - 1}.` : undefined;
  const towerName = (name: string): string | undefined => {
    if (!name.startsWith('vision_model.') || name.endsWith('.position_ids')) return undefined;
    if (cut !== undefined && (name.startsWith(cut) || name.startsWith('vision_model.head.'))) return undefined;
    return towerPrefix + name.slice('vision_model.'.length);
  };
  return united(learned.path, [
    { weights: language, rename: (name) => name },
    { weights: tower, rename: towerName },
    { weights: learned, rename: bareName },
  ]);
}
