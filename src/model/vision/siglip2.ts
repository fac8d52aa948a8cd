import { z } from 'zod';
import { Embedding } from '../../nn/embedding.ts';
import { normal } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { upsampleBilinearAa } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { resizePositions } from './positions.ts';
import { PoolingHead } from './siglip.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, InputSize, VitEncoder, vitShape } from './vit.ts';

/**
 * Settings of a SigLIP 2 tower of the kind that takes any resolution (NaFlex), used at one; the defaults are those of transformers'
 * Siglip2VisionConfig. The published towers of fixed resolution are of the type `siglip`.
 */
export const Siglip2Config = z.strictObject({
  type: z.literal('siglip2'),
  hiddenSize: vitShape.hiddenSize.default(768),
  intermediateSize: vitShape.intermediateSize.default(3072),
  numHiddenLayers: vitShape.numHiddenLayers.default(12),
  numAttentionHeads: vitShape.numAttentionHeads.default(12),
  numChannels: z.int().positive().default(3),
  /** Positions that were learned, a square number. */
  numPatches: z
    .int()
    .positive()
    .refine((count) => Number.isInteger(Math.sqrt(count)), { error: 'must be a square number' })
    .default(256),
  patchSize: z.int().positive().default(16),
  inputSize: InputSize,
  hiddenAct: vitShape.hiddenAct.default('gelu_pytorch_tanh'),
  layerNormEps: vitShape.layerNormEps.default(1e-6),
  /** Whether the weights hold the pooling head, which features never run through. */
  visionUseHead: z.boolean().default(true),
  featureLayer: FeatureLayer.default(-2),
});
export type Siglip2Config = z.output<typeof Siglip2Config>;

/** Dims: B images, S patches a side, P = S² patches, p pixels a patch's side, F channels, C width. */
class Embeddings extends Module {
  readonly patchEmbedding: Linear;
  readonly positionEmbedding: Embedding;
  readonly #patch: number;

  constructor({ hiddenSize, numChannels, numPatches, patchSize }: Siglip2Config) {
    super();
    this.patchEmbedding = new Linear(numChannels * patchSize ** 2, hiddenSize);
    this.positionEmbedding = new Embedding(numPatches, hiddenSize, { init: normal(hiddenSize ** -0.5) });
    this.#patch = patchSize;
  }

  forward(pixels: Tensor): Tensor {
    const [B, F, H] = sizes(pixels, 'B F H W');
    const p = this.#patch;
    const side = Math.floor(H / p);
    const whole = pixels.narrow(2, 0, side * p).narrow(3, 0, side * p);
    // Within a patch: rows, columns, channels.
    const patches = whole
      .reshape(B, F, side, p, side, p)
      .permute(0, 2, 4, 3, 5, 1)
      .reshape(B, side ** 2, p * p * F);
    const embedded = this.patchEmbedding.forward(patches.cast(this.patchEmbedding.weight.dtype));
    return embedded.add(resizePositions(this.positionEmbedding.weight, side, upsampleBilinearAa)); // [B, P, C]
  }
}

class VisionModel extends Module {
  readonly embeddings: Embeddings;
  readonly encoder: VitEncoder;
  /** Never run: the features are taken before it. */
  readonly postLayernorm: LayerNorm;
  readonly head: PoolingHead | undefined;

  constructor(config: Siglip2Config) {
    super();
    this.embeddings = new Embeddings(config);
    this.encoder = new VitEncoder(config);
    this.postLayernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.head = config.visionUseHead ? new PoolingHead(config) : undefined;
  }
}

/** The image encoder of SigLIP 2 at one square resolution. Tschannen et al. 2025, arXiv:2502.14786. */
export class Siglip2Tower extends VisionTower {
  readonly visionModel: VisionModel;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #layers: readonly number[];

  constructor(config: Siglip2Config) {
    super();
    this.visionModel = new VisionModel(config);
    this.imageSize = config.inputSize ?? Math.sqrt(config.numPatches) * config.patchSize;
    this.#channels = config.numChannels;
    this.#layers = this.visionModel.encoder.featureIndices(config.featureLayer);
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = Math.floor(this.imageSize / config.patchSize) ** 2;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    const { embeddings, encoder } = this.visionModel;
    return encoder.features(embeddings.forward(pixels), this.#layers);
  }
}

/** The registry entry of SigLIP 2 towers that take any resolution. */
export const siglip2 = part({
  modelType: 'siglip2_vision_model',
  schema: Siglip2Config,
  make: Siglip2Tower,
  read: ({ vision_feature_layer, vision_feature_select_strategy: _, ...json }) => ({
    ...json,
    feature_layer: vision_feature_layer ?? null,
  }),
  write: ({ feature_layer, ...json }) => ({ ...json, vision_feature_layer: feature_layer, vision_feature_select_strategy: 'full' }),
});
