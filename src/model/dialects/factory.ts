import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { llavaRows } from '../dialect.ts';
import type { Json } from '../part.ts';
import { check } from '../registry.ts';
import { connectorRows, perceptronNamed } from './connector-rows.ts';
import { countLayers, dinov2Sizes, llavaProcessor, type PublishedDialect, placeholderId, sizeOf } from './published.ts';

const Section = z.record(z.string(), z.unknown());
const FactoryFields = z.looseObject({
  text_config: Section,
  vision_config: Section,
  connector_type: z.string(),
  vision_feature_layer: z.int().default(-2),
  vision_feature_select_strategy: z.enum(['patch', 'cls_patch']).default('patch'),
  num_queries: z.int().positive().nullish(),
  num_resampler_layers: z.int().positive().nullish(),
});
type FactoryFields = z.output<typeof FactoryFields>;

const connectorPrefix = 'connector._connector.';
const secondTower = 'vision_tower._vision_tower.dinov2.';

/** Factory takes the Q-Former's sizes from BERT-base, and writes them nowhere. */
function qformer(weights: WeightSource): Json {
  const [num_queries, hidden_size] = [1, 2].map((dim) => sizeOf(weights, `${connectorPrefix}query_tokens`, dim));
  const layers = `${connectorPrefix}bert.encoder.layer.`;
  return {
    model_type: 'qformer',
    num_queries,
    hidden_size,
    intermediate_size: sizeOf(weights, `${layers}0.intermediate_query.dense.weight`, 0),
    num_hidden_layers: countLayers(weights, layers),
    num_attention_heads: (hidden_size ?? 0) / 64,
    cross_attention_frequency: 2,
    query_norm_affine: false,
  };
}

function connector({ connector_type, num_queries, num_resampler_layers }: FactoryFields, weights: WeightSource, file: string): Json {
  if (connector_type === 'resampler') return { model_type: 'resampler', num_queries, num_layers: num_resampler_layers };
  if (connector_type === 'qformer') return qformer(weights);
  if (connector_type === 'mof_mlp') return { model_type: 'mof_mlp', clip_size: sizeOf(weights, `${connectorPrefix}clip.0.weight`, 1) };
  const section = perceptronNamed(connector_type);
  if (section) return section;
  throw new ConfigError(`${file}: unknown connector_type "${connector_type}"`, {
    hint: 'known: identity, linear, mlp1x_gelu, mlp2x_gelu, …, resampler, qformer, mof_mlp',
  });
}

/**
 * TinyLLaVA Factory 1 (https://github.com/TinyLLaVA/TinyLLaVA_Factory). `patch` leaves out the first token, and SigLIP, which has no class
 * token, so loses a patch: published models were trained with 728 tokens of 729.
 */
export const factory: PublishedDialect = {
  matches: (config) => config['model_type'] === 'tinyllava' && 'connector_type' in config,
  read: (config, weights, file) => {
    const fields = check(FactoryFields, config, { file });
    const { text_config, vision_config, vision_feature_layer, vision_feature_select_strategy } = fields;
    const mof = weights.names.some((name) => name.startsWith(secondTower));
    return {
      model_type: 'tinyllava',
      text_config,
      vision_config: mof ? { model_type: 'mof', clip: vision_config, dinov2: dinov2Sizes(weights, secondTower) } : vision_config,
      vision_feature_layer,
      vision_feature_select_strategy: vision_feature_select_strategy === 'patch' ? 'default' : 'full',
      image_token_index: placeholderId(weights),
      connector_config: connector(fields, weights, file),
    };
  },
  processor: llavaProcessor,
  rows: [
    [/^vision_tower\._vision_tower\./, 'model.vision_tower.'],
    [/^(model\.vision_tower\.clip\.)(?=embeddings\.|encoder\.|pre_layrnorm\.|post_layernorm\.)/, '$1vision_model.'],
    [/^connector\._connector\./, 'model.multi_modal_projector.'],
    ...connectorRows,
    [/^language_model\.transformer\./, 'model.language_model.'],
    ...llavaRows,
  ],
};
