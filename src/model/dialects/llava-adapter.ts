import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { isAdapter, llavaTrainables } from '../adapter/adapter.ts';
import { united } from '../united.ts';
import { towerPrefix } from './llava.ts';
import { countLayers } from './published.ts';

/** Whether a folder is what LLaVA's LoRA training leaves. */
export const isLlavaAdapter = (folder: string): boolean => isAdapter(folder) && existsSync(join(folder, llavaTrainables));

/** A language model, and a tower out of its own folder or a whole CLIP or SigLIP, under the names of a LLaVA saved whole. */
export function llavaParts(language: WeightSource, tower: WeightSource): WeightSource {
  const layers = countLayers(tower, 'vision_model.encoder.layers.');
  // TinyLLaVABench cuts a SigLIP before its last layer and takes off its head.
  const cut = tower.names.some((name) => name.startsWith('vision_model.head.')) ? `vision_model.encoder.layers.${layers - 1}.` : undefined;
  const rename = (name: string): string | undefined => {
    if (!name.startsWith('vision_model.') || name.endsWith('.position_ids')) return undefined;
    if (cut !== undefined && (name.startsWith(cut) || name.startsWith('vision_model.head.'))) return undefined;
    return towerPrefix + name.slice('vision_model.'.length);
  };
  return united(`${language.path} and ${tower.path}`, [{ weights: language }, { weights: tower, rename }]);
}
