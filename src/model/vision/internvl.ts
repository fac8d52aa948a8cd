import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { normal } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { type KeyTable, Module } from '../../nn/module.ts';
import { multiHeadAttention } from '../../nn/multi-head.ts';
import { LayerNorm, RmsNorm } from '../../nn/norm.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Json, part, withoutDefaults } from '../part.ts';
import { Dinov2Embeddings, LayerScale } from './dinov2.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, featureIndices, InputSize, layerFeatures, VitMlp, vitShape } from './vit.ts';

/** Settings of an InternViT tower; the defaults are those of transformers' InternVLVisionConfig. */
export const InternVlConfig = z.strictObject({
  type: z.literal('internvl'),
  hiddenSize: vitShape.hiddenSize.default(1024),
  intermediateSize: vitShape.intermediateSize.default(4096),
  numHiddenLayers: vitShape.numHiddenLayers.default(24),
  numAttentionHeads: vitShape.numAttentionHeads.default(16),
  attentionBias: z.boolean().default(false),
  /** Norms over all heads' queries and keys together, as the 6 B tower has them. */
  useQkNorm: z.boolean().default(false),
  normType: z.enum(['layer_norm', 'rms_norm']).default('layer_norm'),
  numChannels: z.int().positive().default(3),
  imageSize: z.int().positive().default(448),
  inputSize: InputSize,
  patchSize: z.int().positive().default(14),
  hiddenAct: vitShape.hiddenAct.default('gelu'),
  layerNormEps: vitShape.layerNormEps.default(1e-6),
  layerScaleInitValue: z.number().default(0.1),
  featureLayer: FeatureLayer.default(-1),
  /** `patch` leaves the class token out, `cls_patch` keeps it. */
  select: z.enum(['patch', 'cls_patch']).default('patch'),
});
export type InternVlConfig = z.output<typeof InternVlConfig>;

/** Dims: B images, T tokens, C width. */
class Attention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly projectionLayer: Linear;
  readonly qNorm: RmsNorm | undefined;
  readonly kNorm: RmsNorm | undefined;
  readonly #heads: number;

  constructor({ hiddenSize, numAttentionHeads, attentionBias: bias, useQkNorm }: InternVlConfig) {
    super();
    if (hiddenSize % numAttentionHeads !== 0) {
      throw new ConfigError(`hiddenSize ${hiddenSize} is not a multiple of the ${numAttentionHeads} attention heads`);
    }
    const linear = (): Linear => new Linear(hiddenSize, hiddenSize, { bias, init: normal(0.02) });
    this.qProj = linear();
    this.kProj = linear();
    this.vProj = linear();
    this.projectionLayer = new Linear(hiddenSize, hiddenSize, { init: normal(0.02) });
    this.qNorm = useQkNorm ? new RmsNorm(hiddenSize, { eps: 1e-6 }) : undefined;
    this.kNorm = useQkNorm ? new RmsNorm(hiddenSize, { eps: 1e-6 }) : undefined;
    this.#heads = numAttentionHeads;
  }

  forward(x: Tensor): Tensor {
    const [q, k, v] = [this.qProj.forward(x), this.kProj.forward(x), this.vProj.forward(x)];
    const [queries, keys] = [this.qNorm?.forward(q) ?? q, this.kNorm?.forward(k) ?? k];
    return this.projectionLayer.forward(multiHeadAttention(queries, keys, v, { heads: this.#heads }));
  }
}

class Block extends Module {
  readonly attention: Attention;
  readonly mlp: VitMlp;
  readonly layernormBefore: LayerNorm | RmsNorm;
  readonly layernormAfter: LayerNorm | RmsNorm;
  readonly scale1: LayerScale;
  readonly scale2: LayerScale;

  constructor(config: InternVlConfig) {
    super();
    const { hiddenSize, layerNormEps: eps, layerScaleInitValue } = config;
    const Norm = config.normType === 'layer_norm' ? LayerNorm : RmsNorm;
    this.attention = new Attention(config);
    this.mlp = new VitMlp(config);
    this.layernormBefore = new Norm(hiddenSize, { eps });
    this.layernormAfter = new Norm(hiddenSize, { eps });
    this.scale1 = new LayerScale(hiddenSize, layerScaleInitValue);
    this.scale2 = new LayerScale(hiddenSize, layerScaleInitValue);
  }

  protected override get keys(): KeyTable {
    return { 'scale1.lambda1': 'lambda_1', 'scale2.lambda1': 'lambda_2' };
  }

  /** `x` [B, T, C], same shape out. */
  forward(x: Tensor): Tensor {
    const h = x.add(this.scale1.forward(this.attention.forward(this.layernormBefore.forward(x))));
    return h.add(this.scale2.forward(this.mlp.forward(this.layernormAfter.forward(h))));
  }
}

class Encoder extends Module {
  readonly layer: readonly Block[];

  constructor(config: InternVlConfig) {
    super();
    this.layer = Array.from({ length: config.numHiddenLayers }, () => new Block(config));
  }
}

/** InternViT, the image encoder of InternVL. Chen et al. 2023, arXiv:2312.14238. */
export class InternVlTower extends VisionTower {
  readonly embeddings: Dinov2Embeddings;
  readonly encoder: Encoder;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #layers: readonly number[];
  readonly #first: number;

  constructor(config: InternVlConfig) {
    super();
    this.embeddings = new Dinov2Embeddings({ ...config, useMaskToken: false });
    this.encoder = new Encoder(config);
    this.imageSize = config.inputSize ?? config.imageSize;
    this.#channels = config.numChannels;
    this.#layers = featureIndices(config.featureLayer, config.numHiddenLayers);
    this.#first = config.select === 'patch' ? 1 : 0;
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = Math.floor(this.imageSize / config.patchSize) ** 2 + 1 - this.#first;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    const features = layerFeatures(this.encoder.layer, this.embeddings.forward(pixels), this.#layers, (block, h) => block.forward(h));
    return features.narrow(1, this.#first, this.tokens);
  }
}

/** transformers writes sizes as height and width, which are the same in all published towers. */
const side = (value: unknown): unknown => (Array.isArray(value) ? value[0] : value);

/** The registry entry of InternViT towers. */
export const internVl = part({
  modelType: 'internvl_vision',
  schema: InternVlConfig,
  make: InternVlTower,
  read: ({ vision_feature_layer, vision_feature_select_strategy, image_size, patch_size, ...json }): Json => ({
    ...json,
    image_size: side(image_size) ?? null,
    patch_size: side(patch_size) ?? null,
    feature_layer: vision_feature_layer ?? null,
    select: vision_feature_select_strategy === 'full' ? 'cls_patch' : 'patch',
  }),
  write: ({ feature_layer, select, image_size, patch_size, ...json }) => ({
    ...withoutDefaults(json, { use_qk_norm: false }),
    image_size: [image_size, image_size],
    patch_size: [patch_size, patch_size],
    // The features of its last layer are those that transformers' InternVL takes: no norm stands behind it.
    use_mean_pooling: true,
    vision_feature_layer: feature_layer,
    vision_feature_select_strategy: select === 'patch' ? 'default' : 'full',
  }),
});
