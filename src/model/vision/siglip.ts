import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { Conv2d } from '../../nn/conv.ts';
import { Embedding } from '../../nn/embedding.ts';
import { normal, xavierUniform, zeros } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { Module, parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part, withoutDefaults } from '../part.ts';
import { resizePositions } from './positions.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, InputSize, VitEncoder, VitMlp, vitShape } from './vit.ts';

/** Settings of a SigLIP tower; the defaults are those of transformers' SiglipVisionConfig. */
export const SiglipConfig = z.strictObject({
  type: z.literal('siglip'),
  hiddenSize: vitShape.hiddenSize.default(768),
  intermediateSize: vitShape.intermediateSize.default(3072),
  numHiddenLayers: vitShape.numHiddenLayers.default(12),
  numAttentionHeads: vitShape.numAttentionHeads.default(12),
  numChannels: z.int().positive().default(3),
  imageSize: z.int().positive().default(224),
  inputSize: InputSize,
  patchSize: z.int().positive().default(16),
  hiddenAct: vitShape.hiddenAct.default('gelu_pytorch_tanh'),
  layerNormEps: vitShape.layerNormEps.default(1e-6),
  /** Whether the weights hold the pooling head, which features never run through. */
  visionUseHead: z.boolean().default(true),
  featureLayer: FeatureLayer.default(-2),
  /** Whether features of the last layer go through the norm behind it, as nanoVLM, Idefics3 and SmolVLM take them. */
  postNorm: z.boolean().default(false),
  /** SigLIP has no class token, so every patch is kept; true leaves the first one out, as some published models were trained. */
  dropFirstPatch: z.boolean().default(false),
});
export type SiglipConfig = z.output<typeof SiglipConfig>;

/** Dims: B images, P patches, C width. */
class SiglipEmbeddings extends Module {
  readonly patchEmbedding: Conv2d;
  readonly positionEmbedding: Embedding;

  constructor({ hiddenSize, numChannels, imageSize, patchSize }: SiglipConfig) {
    super();
    this.patchEmbedding = new Conv2d(numChannels, hiddenSize, { kernel: patchSize, stride: patchSize });
    this.positionEmbedding = new Embedding(Math.floor(imageSize / patchSize) ** 2, hiddenSize, { init: normal(hiddenSize ** -0.5) });
  }

  forward(pixels: Tensor): Tensor {
    const patches = this.patchEmbedding.forward(pixels.cast(this.patchEmbedding.weight.dtype)).flatten(2).transpose(1, 2);
    return patches.add(resizePositions(this.positionEmbedding.weight, Math.sqrt(patches.size(1)))); // [B, P, C]
  }
}

class PoolingAttention extends Module {
  readonly inProjWeight: Tensor;
  readonly inProjBias: Tensor;
  readonly outProj: Linear;

  constructor(width: number) {
    super();
    this.inProjWeight = parameter([3 * width, width], xavierUniform);
    this.inProjBias = parameter([3 * width], zeros);
    this.outProj = new Linear(width, width);
  }
}

/** The pooling head's weights, kept so that a checkpoint goes back out whole. */
export class PoolingHead extends Module {
  readonly probe: Tensor;
  readonly attention: PoolingAttention;
  readonly layernorm: LayerNorm;
  readonly mlp: VitMlp;

  constructor(config: ConstructorParameters<typeof VitMlp>[0]) {
    super();
    this.probe = parameter([1, 1, config.hiddenSize], normal(config.hiddenSize ** -0.5));
    this.attention = new PoolingAttention(config.hiddenSize);
    this.layernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.mlp = new VitMlp(config);
  }
}

class SiglipVisionModel extends Module {
  readonly embeddings: SiglipEmbeddings;
  readonly encoder: VitEncoder;
  /** Run with `postNorm` alone: other features are taken before it. */
  readonly postLayernorm: LayerNorm;
  readonly head: PoolingHead | undefined;

  constructor(config: SiglipConfig) {
    super();
    this.embeddings = new SiglipEmbeddings(config);
    this.encoder = new VitEncoder(config);
    this.postLayernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.head = config.visionUseHead ? new PoolingHead(config) : undefined;
  }
}

/** The image encoder of SigLIP. Zhai et al. 2023, arXiv:2303.15343. */
export class SiglipTower extends VisionTower {
  readonly visionModel: SiglipVisionModel;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #layers: readonly number[];
  readonly #first: number;
  readonly #postNorm: boolean;

  constructor(config: SiglipConfig) {
    super();
    this.visionModel = new SiglipVisionModel(config);
    this.imageSize = config.inputSize ?? config.imageSize;
    this.#channels = config.numChannels;
    this.#layers = this.visionModel.encoder.featureIndices(config.featureLayer);
    this.#first = config.dropFirstPatch ? 1 : 0;
    this.#postNorm = config.postNorm;
    if (config.postNorm && this.#layers.join() !== String(config.numHiddenLayers)) {
      throw new ConfigError(`siglip: the norm behind the last layer is for its features alone, got feature layer ${config.featureLayer}`, {
        hint: 'set featureLayer to -1, or postNorm to false',
      });
    }
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = Math.floor(this.imageSize / config.patchSize) ** 2 - this.#first;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    const { embeddings, encoder, postLayernorm } = this.visionModel;
    const raw = encoder.features(embeddings.forward(pixels), this.#layers);
    const features = this.#postNorm ? postLayernorm.forward(raw) : raw;
    return this.#first === 0 ? features : features.narrow(1, this.#first, this.tokens);
  }
}

/** The registry entry of SigLIP towers. */
export const siglip = part({
  modelType: 'siglip_vision_model',
  schema: SiglipConfig,
  make: SiglipTower,
  inTransformers: ({ inputSize, postNorm }) => inputSize === undefined && !postNorm,
  // `default` makes transformers drop the first token, be it a class token or, here, a patch.
  read: ({ vision_feature_layer, vision_feature_select_strategy, ...json }) => ({
    ...json,
    feature_layer: vision_feature_layer ?? null,
    drop_first_patch: vision_feature_select_strategy === 'default',
  }),
  write: ({ feature_layer, drop_first_patch, ...json }) => ({
    ...withoutDefaults(json, { post_norm: false }),
    vision_feature_layer: feature_layer,
    vision_feature_select_strategy: drop_first_patch ? 'default' : 'full',
  }),
});
