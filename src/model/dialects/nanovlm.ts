import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import type { WeightSource } from '../../tensor/safetensors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { llavaRows } from '../dialect.ts';
import { check } from '../registry.ts';
import type { PublishedDialect } from './published.ts';

const NanoVlmFields = z.looseObject({
  vit_hidden_dim: z.int().positive(),
  vit_inter_dim: z.int().positive(),
  vit_patch_size: z.int().positive(),
  vit_img_size: z.int().positive(),
  vit_n_heads: z.int().positive(),
  vit_n_blocks: z.int().positive(),
  vit_ln_eps: z.number().positive(),
  vit_cls_flag: z.literal(false).default(false),
  lm_hidden_dim: z.int().positive(),
  lm_inter_dim: z.int().positive(),
  lm_rms_eps: z.number().positive(),
  lm_re_base: z.number().positive(),
  lm_max_position_embeddings: z.int().positive(),
  lm_vocab_size: z.int().positive(),
  lm_base_vocab_size: z.int().positive().optional(),
  lm_n_heads: z.int().positive(),
  lm_n_kv_heads: z.int().positive(),
  lm_n_blocks: z.int().positive(),
  lm_attn_scaling: z.literal(1).default(1),
  lm_tie_weights: z.boolean().default(true),
  mp_pixel_shuffle_factor: z.int().positive(),
  vlm_extra_tokens: z.record(z.string(), z.string()).default({}),
});
type NanoVlmFields = z.output<typeof NanoVlmFields>;

/** The tokenizer gets the extra tokens in their order, behind its own; models from before those had no token for images. */
function imageTokenId({ lm_vocab_size, lm_base_vocab_size, vlm_extra_tokens }: NanoVlmFields): number {
  const index = Object.keys(vlm_extra_tokens).indexOf('image_token');
  return lm_base_vocab_size === undefined || index < 0 ? lm_vocab_size : lm_base_vocab_size + index;
}

const qkv = /^(vision_encoder\.blocks\.\d+\.attn\.)qkv_proj(\.(?:weight|bias))$/;
const positions = 'vision_encoder.patch_embedding.position_embedding';
const head = 'decoder.head.weight';
const embedding = 'decoder.token_embedding.weight';

/** A tensor of a file, or a part of one. */
interface Piece {
  readonly name: string;
  readonly shape: readonly number[];
  readonly cut?: (whole: Tensor) => Tensor;
}

function pieces(weights: WeightSource, name: string): [key: string, piece: Piece][] {
  const shape = weights.shape(name);
  const fused = qkv.exec(name);
  if (fused) {
    const rows = (shape[0] ?? 0) / 3;
    return ['q_proj', 'k_proj', 'v_proj'].map((part, i) => [
      `${fused[1]}${part}${fused[2]}`,
      { name, shape: [rows, ...shape.slice(1)], cut: (whole) => whole.narrow(0, i * rows, rows) },
    ]);
  }
  if (name === positions) return [[`${name}.weight`, { name, shape: shape.slice(1), cut: (whole) => whole.select(0, 0) }]];
  // safetensors writes one of two tied tensors, whichever name comes first in the alphabet.
  if (name === head && !weights.names.includes(embedding)) return [[embedding, { name, shape }]];
  return [[name, { name, shape }]];
}

/** nanoVLM (https://github.com/huggingface/nanoVLM): a SigLIP to the norm behind its last layer, pixel shuffle and one layer, a Llama. */
export const nanovlm: PublishedDialect = {
  matches: (config) => 'vit_hidden_dim' in config && 'lm_hidden_dim' in config,
  read: (config, weights, file) => {
    const fields = check(NanoVlmFields, config, { file });
    if (!fields.lm_tie_weights && !weights.names.includes(head))
      throw new ConfigError(`${file}: lm_tie_weights is false, but there is no ${head}`);
    return {
      model_type: 'tinyllava',
      text_config: {
        model_type: 'llama',
        vocab_size: fields.lm_vocab_size,
        hidden_size: fields.lm_hidden_dim,
        intermediate_size: fields.lm_inter_dim,
        num_hidden_layers: fields.lm_n_blocks,
        num_attention_heads: fields.lm_n_heads,
        num_key_value_heads: fields.lm_n_kv_heads,
        rms_norm_eps: fields.lm_rms_eps,
        rope_theta: fields.lm_re_base,
        max_position_embeddings: fields.lm_max_position_embeddings,
        tie_word_embeddings: fields.lm_tie_weights,
      },
      vision_config: {
        model_type: 'siglip_vision_model',
        hidden_size: fields.vit_hidden_dim,
        intermediate_size: fields.vit_inter_dim,
        num_hidden_layers: fields.vit_n_blocks,
        num_attention_heads: fields.vit_n_heads,
        image_size: fields.vit_img_size,
        patch_size: fields.vit_patch_size,
        layer_norm_eps: fields.vit_ln_eps,
        vision_use_head: false,
        post_norm: true,
      },
      vision_feature_layer: -1,
      vision_feature_select_strategy: 'full',
      image_token_index: imageTokenId(fields),
      connector_config: { model_type: 'pixel_shuffle', factor: fields.mp_pixel_shuffle_factor, layers: 1, bias: false },
    };
  },
  processor: (_, { vit_img_size, lm_chat_template, max_img_size }) => ({
    template: lm_chat_template === undefined ? 'nanovlm' : 'chatml',
    // Values from 0 to 1, and no more than that; bilinear until there were tiles.
    preprocessor: {
      image_processor_type: 'SiglipImageProcessor',
      size: { height: vit_img_size, width: vit_img_size },
      resample: max_img_size === undefined ? 2 : 3,
      image_mean: [0, 0, 0],
      image_std: [1, 1, 1],
    },
  }),
  adapt: (weights) => {
    const found = new Map(weights.names.flatMap((name) => pieces(weights, name)));
    const find = (key: string): Piece => found.get(key) ?? { name: key, shape: weights.shape(key) };
    return {
      path: weights.path,
      names: [...found.keys()],
      shape: (key) => find(key).shape,
      dtype: (key) => weights.dtype(find(key).name),
      tensor: (key, memory) => {
        const { name, cut } = find(key);
        if (!cut) return weights.tensor(name, memory);
        const whole = weights.tensor(name, memory && 'own');
        const part = cut(whole);
        whole.free();
        return part;
      },
    };
  },
  rows: [
    [/\.rotary_embd\.inv_freq$/, null],
    [/^vision_encoder\.patch_embedding\.conv\./, 'model.vision_tower.vision_model.embeddings.patch_embedding.'],
    [/^vision_encoder\.patch_embedding\./, 'model.vision_tower.vision_model.embeddings.'],
    [/^vision_encoder\.layer_norm\./, 'model.vision_tower.vision_model.post_layernorm.'],
    [/^vision_encoder\.blocks\./, 'model.vision_tower.vision_model.encoder.layers.'],
    [/^(model\.vision_tower\..*\.)ln([12])\./, '$1layer_norm$2.'],
    [/^(model\.vision_tower\..*\.)attn\./, '$1self_attn.'],
    [/^MP\.proj\./, 'model.multi_modal_projector.linear_1.'],
    [/^decoder\.token_embedding\./, 'model.language_model.embed_tokens.'],
    [/^decoder\.head\./, 'lm_head.'],
    [/^decoder\./, 'model.language_model.'],
    [/^(model\.language_model\.)blocks\./, '$1layers.'],
    [/^(model\.language_model\..*\.)attn\.out_proj\./, '$1self_attn.o_proj.'],
    [/^(model\.language_model\..*\.)attn\./, '$1self_attn.'],
    [/^(model\.language_model\..*\.)norm1\./, '$1input_layernorm.'],
    [/^(model\.language_model\..*\.)norm2\./, '$1post_attention_layernorm.'],
    ...llavaRows,
  ],
};
