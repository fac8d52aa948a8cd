import { z } from 'zod';
import { Embedding } from '../../nn/embedding.ts';
import { normal } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import { upsampleBilinearAa } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { resizePositions } from './positions.ts';
import { PoolingHead } from './siglip.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, InputSize, VitEncoder, vitShape } from './vit.ts';

/**
 * Settings of a SigLIP 2 tower of the kind that takes any resolution (NaFlex); the defaults are those of transformers'
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

/** Dims: B images, h x w patches, P = h · w, p pixels a patch's side, F channels, C width. */
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
    return this.#embed(this.#cut(pixels)).add(this.#positions(pixels)); // [B, P, C]
  }

  /** Images of unequal sizes to [N, C], one behind the other, and how many rows each has. */
  packed(images: readonly Tensor[]): { rows: Tensor; lengths: number[] } {
    const patches = images.map((image) => this.#cut(image.unsqueeze(0)).squeeze(0));
    const positions = images.map((image) => this.#positions(image.unsqueeze(0)));
    return { rows: this.#embed(cat(patches)).add(cat(positions)), lengths: patches.map((rows) => rows.size(0)) };
  }

  #grid(pixels: Tensor): [h: number, w: number] {
    return [Math.floor(pixels.size(2) / this.#patch), Math.floor(pixels.size(3) / this.#patch)];
  }

  /** [B, F, H, W] to [B, P, p · p · F]; within a patch: rows, columns, channels. What is left over below and on the right is not seen. */
  #cut(pixels: Tensor): Tensor {
    const [B, F] = sizes(pixels, 'B F H W');
    const [p, [h, w]] = [this.#patch, this.#grid(pixels)];
    const whole = pixels.narrow(2, 0, h * p).narrow(3, 0, w * p);
    return whole
      .reshape(B, F, h, p, w, p)
      .permute(0, 2, 4, 3, 5, 1)
      .reshape(B, h * w, p * p * F);
  }

  #embed(patches: Tensor): Tensor {
    // A weight of linear layers may be in pieces that would be put together for it.
    return this.patchEmbedding.forward(patches.cast(this.positionEmbedding.weight.dtype));
  }

  #positions(pixels: Tensor): Tensor {
    return resizePositions(this.positionEmbedding.weight, this.#grid(pixels), upsampleBilinearAa);
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

/** The image encoder of SigLIP 2, at one square resolution or at any. Tschannen et al. 2025, arXiv:2502.14786. */
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

  /**
   * Images of any sizes, each [3, h · p, w · p] and normalized, to features [N, C]: the h · w rows of each, one image behind the other. Nothing is
   * padded, and every image sees itself alone. Throws ShapeError. `naflexSize` says what to resize an image to.
   */
  forwardAny(images: readonly Tensor[]): Tensor {
    for (const image of images) sizes(image, 'channels H W', { channels: this.#channels });
    const { embeddings, encoder } = this.visionModel;
    const { rows, lengths } = embeddings.packed(images);
    return encoder.features(rows, this.#layers, lengths);
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
