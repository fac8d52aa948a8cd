import { z } from 'zod';
import { llavaRows } from '../dialect.ts';
import { check } from '../registry.ts';
import type { PublishedDialect } from './published.ts';

const Section = z.record(z.string(), z.unknown());
const InternVlFields = z.looseObject({
  text_config: Section,
  vision_config: Section,
  image_token_id: z.int().nonnegative().default(151_667),
  downsample_ratio: z.number().positive().default(0.5),
  projector_hidden_act: z.string().default('gelu'),
  vision_feature_layer: z.int().default(-1),
  vision_feature_select_strategy: z.enum(['default', 'full']).default('default'),
  tie_word_embeddings: z.boolean().nullish(),
});

/** InternVL as transformers has it: InternViT, pixel shuffle, a norm and two layers, a Qwen 2. Chen et al. 2024, arXiv:2404.16821. */
export const internVl: PublishedDialect = {
  matches: (config) => config['model_type'] === 'internvl',
  read: (config, _, file) => {
    const fields = check(InternVlFields, config, { file });
    const { text_config, vision_config, vision_feature_layer, vision_feature_select_strategy } = fields;
    return {
      model_type: 'tinyllava',
      family: 'internvl',
      text_config: { model_type: 'qwen2', ...text_config },
      vision_config: { model_type: 'internvl_vision', ...vision_config },
      vision_feature_layer,
      vision_feature_select_strategy,
      image_token_index: fields.image_token_id,
      connector_config: {
        model_type: 'pixel_shuffle_mlp',
        factor: Math.round(1 / fields.downsample_ratio),
        hidden_act: fields.projector_hidden_act,
      },
      ...(fields.tie_word_embeddings != null && { tie_word_embeddings: fields.tie_word_embeddings }),
    };
  },
  rows: llavaRows,
};
