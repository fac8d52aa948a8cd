import { llavaRows } from '../dialect.ts';
import type { Json } from '../part.ts';
import type { PublishedDialect } from './published.ts';

const rows = [[/^image_newline$/, 'model.image_newline'] as const, ...llavaRows];

/** What transformers' LlavaNextConfig takes for resolutions when the file names none. */
const nextPinpoints = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];

/** LLaVA-1.6 as transformers has it: https://llava-vl.github.io/blog/2024-01-30-llava-next/. */
export const llavaNext: PublishedDialect = {
  matches: (config) => config['model_type'] === 'llava_next',
  read: (config) => ({ image_grid_pinpoints: nextPinpoints, ...config, model_type: 'tinyllava' }),
  rows,
};

const onevisionSides = [1, 2, 3, 4, 5, 6].map((tiles) => 384 * tiles);

const onevisionDefaults: Json = {
  vision_config: {
    model_type: 'siglip_vision_model',
    hidden_size: 1152,
    intermediate_size: 4304,
    patch_size: 14,
    image_size: 384,
    num_hidden_layers: 26,
    num_attention_heads: 16,
    vision_use_head: false,
  },
  image_token_index: 151_646,
  vision_feature_select_strategy: 'full',
  vision_feature_layer: -1,
  image_grid_pinpoints: onevisionSides.flatMap((height) => onevisionSides.map((width) => [height, width])),
  vision_aspect_ratio: 'anyres_max_9',
};

/** LLaVA-OneVision as transformers has it. Li et al. 2024, arXiv:2408.03326. */
export const llavaOnevision: PublishedDialect = {
  matches: (config) => config['model_type'] === 'llava_onevision',
  read: ({ text_config, ...config }) => ({
    ...onevisionDefaults,
    ...config,
    text_config: { model_type: 'qwen2', ...(text_config as Json) },
    model_type: 'tinyllava',
  }),
  rows,
};
