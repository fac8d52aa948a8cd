import { z } from 'zod';
import { llavaRows } from '../dialect.ts';
import { check } from '../registry.ts';
import type { PublishedDialect } from './published.ts';

const Section = z.record(z.string(), z.unknown());
const Idefics3Fields = z.looseObject({
  model_type: z.enum(['idefics3', 'smolvlm']),
  text_config: Section,
  vision_config: Section,
  scale_factor: z.int().positive().default(2),
  image_token_id: z.int().nonnegative(),
  tie_word_embeddings: z.boolean().nullish(),
});

/** What transformers' Idefics3VisionConfig and SmolVLMVisionConfig take where the file is silent. */
const visionDefaults = {
  hidden_size: 1152,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 16,
  image_size: 224,
  patch_size: 32,
};

/**
 * Idefics3 and SmolVLM as transformers has them: a SigLIP to the norm behind its last layer, pixel shuffle and one layer, a Llama.
 * Laurençon et al. 2024, arXiv:2408.12637; Marafioti et al. 2025, arXiv:2504.05299.
 */
export const idefics3: PublishedDialect = {
  matches: (config) => config['model_type'] === 'idefics3' || config['model_type'] === 'smolvlm',
  read: (config, _, file) => {
    const { model_type, text_config, vision_config, scale_factor, image_token_id, tie_word_embeddings } = check(Idefics3Fields, config, {
      file,
    });
    return {
      model_type: 'tinyllava',
      family: model_type,
      text_config: { model_type: 'llama', ...text_config },
      vision_config: { ...visionDefaults, ...vision_config, model_type: 'siglip_vision_model', vision_use_head: false, post_norm: true },
      vision_feature_layer: -1,
      vision_feature_select_strategy: 'full',
      image_token_index: image_token_id,
      connector_config: { model_type: 'pixel_shuffle', factor: scale_factor, layers: 1, bias: false },
      tie_word_embeddings: tie_word_embeddings ?? false,
    };
  },
  rows: [
    [/^model\.vision_model\./, 'model.vision_tower.vision_model.'],
    [/^model\.connector\.modality_projection\.proj\./, 'model.multi_modal_projector.linear_1.'],
    [/^model\.text_model\./, 'model.language_model.'],
    ...llavaRows,
  ],
};
