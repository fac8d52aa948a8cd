import { z } from 'zod';
import { Conv2d } from '../../nn/conv.ts';
import { Embedding } from '../../nn/embedding.ts';
import { normal } from '../../nn/init.ts';
import { Module, parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { resizePositions } from './positions.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, InputSize, VitEncoder, vitShape } from './vit.ts';

/** Settings of a CLIP tower; the defaults are those of transformers' CLIPVisionConfig. */
export const ClipConfig = z.strictObject({
  type: z.literal('clip'),
  hiddenSize: vitShape.hiddenSize.default(768),
  intermediateSize: vitShape.intermediateSize.default(3072),
  numHiddenLayers: vitShape.numHiddenLayers.default(12),
  numAttentionHeads: vitShape.numAttentionHeads.default(12),
  numChannels: z.int().positive().default(3),
  imageSize: z.int().positive().default(224),
  inputSize: InputSize,
  patchSize: z.int().positive().default(32),
  hiddenAct: vitShape.hiddenAct.default('quick_gelu'),
  layerNormEps: vitShape.layerNormEps.default(1e-5),
  featureLayer: FeatureLayer.default(-2),
  /** `patch` leaves the class token out, `cls_patch` keeps it. */
  select: z.enum(['patch', 'cls_patch']).default('patch'),
});
export type ClipConfig = z.output<typeof ClipConfig>;

/** Dims: B images, P patches, T = P + 1 tokens, C width. */
class ClipEmbeddings extends Module {
  readonly classEmbedding: Tensor;
  readonly patchEmbedding: Conv2d;
  readonly positionEmbedding: Embedding;

  constructor({ hiddenSize, numChannels, imageSize, patchSize }: ClipConfig) {
    super();
    this.classEmbedding = parameter([hiddenSize], normal(hiddenSize ** -0.5));
    this.patchEmbedding = new Conv2d(numChannels, hiddenSize, { kernel: patchSize, stride: patchSize, bias: false, init: normal(0.02) });
    this.positionEmbedding = new Embedding(Math.floor(imageSize / patchSize) ** 2 + 1, hiddenSize);
  }

  forward(pixels: Tensor): Tensor {
    const patches = this.patchEmbedding.forward(pixels.cast(this.patchEmbedding.weight.dtype)).flatten(2).transpose(1, 2); // [B, P, C]
    const [B, P, C] = sizes(patches, 'B P C');
    return cat([this.classEmbedding.expand(B, 1, C), patches], 1).add(this.#positions(P)); // [B, T, C]
  }

  #positions(patches: number): Tensor {
    const { weight } = this.positionEmbedding;
    const learned = weight.size(0) - 1;
    if (patches === learned) return weight;
    return cat([weight.narrow(0, 0, 1), resizePositions(weight.narrow(0, 1, learned), Math.sqrt(patches))]);
  }
}

class ClipVisionModel extends Module {
  readonly embeddings: ClipEmbeddings;
  /** Spelled as in the published weights. */
  readonly preLayrnorm: LayerNorm;
  readonly encoder: VitEncoder;
  /** Never run: pooling needs it, features do not. */
  readonly postLayernorm: LayerNorm;

  constructor(config: ClipConfig) {
    super();
    this.embeddings = new ClipEmbeddings(config);
    this.preLayrnorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.encoder = new VitEncoder(config);
    this.postLayernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
  }
}

/** The image encoder of CLIP. Radford et al. 2021, arXiv:2103.00020. */
export class ClipTower extends VisionTower {
  readonly visionModel: ClipVisionModel;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #layers: readonly number[];
  readonly #first: number;

  constructor(config: ClipConfig) {
    super();
    this.visionModel = new ClipVisionModel(config);
    this.imageSize = config.inputSize ?? config.imageSize;
    this.#channels = config.numChannels;
    this.#layers = this.visionModel.encoder.featureIndices(config.featureLayer);
    this.#first = config.select === 'patch' ? 1 : 0;
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = Math.floor(this.imageSize / config.patchSize) ** 2 + 1 - this.#first;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    const { embeddings, preLayrnorm, encoder } = this.visionModel;
    const features = encoder.features(preLayrnorm.forward(embeddings.forward(pixels)), this.#layers);
    return features.narrow(1, this.#first, this.tokens);
  }
}

/** The registry entry of CLIP towers. */
export const clip = part({
  modelType: 'clip_vision_model',
  schema: ClipConfig,
  make: ClipTower,
  inTransformers: ({ inputSize }) => inputSize === undefined,
  read: ({ vision_feature_layer, vision_feature_select_strategy, ...json }) => ({
    ...json,
    feature_layer: vision_feature_layer ?? null,
    select: vision_feature_select_strategy === 'full' ? 'cls_patch' : 'patch',
  }),
  write: ({ feature_layer, select, ...json }) => ({
    ...json,
    vision_feature_layer: feature_layer,
    vision_feature_select_strategy: select === 'patch' ? 'default' : 'full',
  }),
});
