import { z } from 'zod';
import { CheckpointError, ConfigError } from '../../errors.ts';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { type KeyRows, llavaRows } from '../dialect.ts';
import type { Json } from '../part.ts';
import { check, pick } from '../registry.ts';
import { connectorRows, perceptronNamed } from './connector-rows.ts';
import { llavaProcessor, type PublishedDialect, placeholderId, vitSizes } from './published.ts';

const LlavaFields = z.looseObject({
  model_type: z.string(),
  mm_vision_tower: z.string(),
  mm_projector_type: z.string().default('linear'),
  mm_vision_select_layer: z.int().default(-2),
  mm_vision_select_feature: z.enum(['patch', 'cls_patch']).default('patch'),
});

/** `model_type` of these files, and what transformers calls the language model in them. */
const languages = { llava: 'llama', llava_llama: 'llama', tiny_llava: 'llama', tiny_llava_phi: 'phi', tiny_llava_stablelm: 'stablelm' };

/** Names under which these files hold a tower of transformers. */
export const towerPrefix = 'model.vision_tower.vision_tower.vision_model.';

/** The settings of the language model stand among all others. */
function text(config: Json, modelType: string, file: string): Json {
  const model_type = pick<string>(languages, 'kind of LLaVA', modelType, { file });
  if (model_type !== 'stablelm') return { ...config, model_type };
  // StableLM's own code came before that of transformers, and has other names and defaults.
  const { rope_pct = 0.25, norm_eps = 1e-5, use_qkv_bias = true } = config;
  return { partial_rotary_factor: rope_pct, layer_norm_eps: norm_eps, ...config, use_qkv_bias, model_type };
}

/** What LLaVA and TinyLLaVABench have in common: all but the tower. */
export function readLlava(config: Json, weights: WeightSource, file: string): { json: Json; fields: z.output<typeof LlavaFields> } {
  const fields = check(LlavaFields, config, { file });
  const section = perceptronNamed(fields.mm_projector_type);
  if (!section) {
    throw new ConfigError(`${file}: unknown mm_projector_type "${fields.mm_projector_type}"`, {
      hint: 'known: identity, linear, mlp1x_gelu, mlp2x_gelu, …',
    });
  }
  if (!weights.names.some((name) => name.startsWith(towerPrefix))) {
    throw new CheckpointError(`${weights.path}: no vision tower among the weights; config.json names "${fields.mm_vision_tower}"`, {
      hint: 'build the model from that tower and a language model, and load mm_projector.bin with loadConnector',
    });
  }
  const json = {
    model_type: 'tinyllava',
    text_config: text(config, fields.model_type, file),
    image_token_index: placeholderId(weights),
    connector_config: section,
  };
  return { json, fields };
}

/** From the keys of LLaVA's own code to those of LlavaForConditionalGeneration. */
export const originalRows: KeyRows = [
  [/^model\.vision_tower\.vision_tower\./, 'model.vision_tower.'],
  [/^model\.mm_projector\./, 'model.multi_modal_projector.'],
  ...connectorRows,
  [/^model\.(?!language_model\.|vision_tower\.|multi_modal_projector\.)/, 'model.language_model.'],
  ...llavaRows,
];

/** LLaVA-1.5 as its authors published it (https://github.com/haotian-liu/LLaVA): a CLIP, and a projector beside the language model. */
export const llava: PublishedDialect = {
  matches: (config) => 'mm_vision_tower' in config,
  read: (config, weights, file) => {
    const { json, fields } = readLlava(config, weights, file);
    return {
      ...json,
      vision_config: { model_type: 'clip_vision_model', ...vitSizes(weights, towerPrefix) },
      vision_feature_layer: fields.mm_vision_select_layer,
      vision_feature_select_strategy: fields.mm_vision_select_feature === 'patch' ? 'default' : 'full',
    };
  },
  processor: llavaProcessor,
  rows: originalRows,
};
