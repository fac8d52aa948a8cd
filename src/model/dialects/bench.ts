import { originalRows, readLlava, towerPrefix } from './llava.ts';
import { llavaProcessor, type PublishedDialect, vitSizes } from './published.ts';

/** The side that the tower's code is written for; 384 is no multiple of its patches of 14. */
const side = 384;

/**
 * TinyLLaVABench (https://github.com/TinyLLaVA/TinyLLaVA_Factory, branch tinyllava_bench): LLaVA's layout with a SigLIP that was cut before
 * its last layer, so that its last features are taken, all 729 of them. With CLIP it is LLaVA's own layout.
 */
export const bench: PublishedDialect = {
  // The reference tells SigLIP from CLIP by the same name.
  matches: (config) => /siglip/i.test(String(config['mm_vision_tower'])),
  read: (config, weights, file) => {
    const { json } = readLlava(config, weights, file);
    const sizes = vitSizes(weights, towerPrefix);
    const patch = Number(sizes['patch_size']);
    const fits = Math.floor(side / patch) * patch === sizes['image_size'];
    return {
      ...json,
      vision_config: {
        model_type: 'siglip_vision_model',
        ...sizes,
        ...(fits && { image_size: side }),
        vision_use_head: weights.names.some((name) => name.startsWith(`${towerPrefix}head.`)),
      },
      vision_feature_layer: -1,
      vision_feature_select_strategy: 'full',
    };
  },
  processor: llavaProcessor,
  rows: originalRows,
};
