import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { activations } from '../../nn/activation.ts';
import { Conv2d } from '../../nn/conv.ts';
import { type Init, normal, zeros } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { Module, parameter } from '../../nn/module.ts';
import { multiHeadAttention } from '../../nn/multi-head.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import { swiglu } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part, withoutDefaults } from '../part.ts';
import { resizePositions } from './positions.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, featureIndices, InputSize, layerFeatures, vitShape } from './vit.ts';

/** The settings that DINOv2 towers with and without registers share. */
export const dinov2Shape = {
  hiddenSize: vitShape.hiddenSize.default(768),
  numHiddenLayers: vitShape.numHiddenLayers.default(12),
  numAttentionHeads: vitShape.numAttentionHeads.default(12),
  /** Width of a block's perceptron, in widths of the tower. */
  mlpRatio: z.int().positive().default(4),
  useSwigluFfn: z.boolean().default(false),
  qkvBias: z.boolean().default(true),
  numChannels: z.int().positive().default(3),
  imageSize: z.int().positive().default(224),
  inputSize: InputSize,
  hiddenAct: vitShape.hiddenAct.default('gelu'),
  layerNormEps: vitShape.layerNormEps.default(1e-6),
  /** Where the gains of the residual branches start. */
  layerscaleValue: z.number().default(1),
  featureLayer: FeatureLayer.default(-2),
};

/** Settings of a DINOv2 tower; the defaults are those of transformers' Dinov2Config. */
export const Dinov2Config = z.strictObject({
  type: z.literal('dinov2'),
  ...dinov2Shape,
  patchSize: z.int().positive().default(14),
  /** Whether the weights hold the mask token, which only pre-training needs. */
  useMaskToken: z.boolean().default(true),
  /** `patch` leaves the class token out, `cls_patch` keeps it. */
  select: z.enum(['patch', 'cls_patch']).default('patch'),
});
export type Dinov2Config = z.output<typeof Dinov2Config>;

type BlockConfig = Pick<
  Dinov2Config,
  'hiddenSize' | 'numAttentionHeads' | 'mlpRatio' | 'useSwigluFfn' | 'qkvBias' | 'hiddenAct' | 'layerNormEps' | 'layerscaleValue'
>;

class SelfAttention extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;

  constructor({ hiddenSize, qkvBias }: BlockConfig) {
    super();
    const options = { bias: qkvBias, init: normal(0.02) };
    this.query = new Linear(hiddenSize, hiddenSize, options);
    this.key = new Linear(hiddenSize, hiddenSize, options);
    this.value = new Linear(hiddenSize, hiddenSize, options);
  }
}

class AttentionOutput extends Module {
  readonly dense: Linear;

  constructor(width: number) {
    super();
    this.dense = new Linear(width, width, { init: normal(0.02) });
  }
}

/** Dims: B images, T tokens, C width. */
class Attention extends Module {
  readonly attention: SelfAttention;
  readonly output: AttentionOutput;
  readonly #heads: number;

  constructor(config: BlockConfig) {
    super();
    const { hiddenSize, numAttentionHeads } = config;
    if (hiddenSize % numAttentionHeads !== 0) {
      throw new ConfigError(`hiddenSize ${hiddenSize} is not a multiple of the ${numAttentionHeads} attention heads`);
    }
    this.attention = new SelfAttention(config);
    this.output = new AttentionOutput(hiddenSize);
    this.#heads = numAttentionHeads;
  }

  forward(x: Tensor): Tensor {
    const { query, key, value } = this.attention;
    return this.output.dense.forward(multiHeadAttention(query.forward(x), key.forward(x), value.forward(x), { heads: this.#heads }));
  }
}

class Mlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor({ hiddenSize, mlpRatio, hiddenAct }: BlockConfig) {
    super();
    const inner = hiddenSize * mlpRatio;
    this.fc1 = new Linear(hiddenSize, inner, { init: normal(0.02) });
    this.fc2 = new Linear(inner, hiddenSize, { init: normal(0.02) });
    this.#activation = activations[hiddenAct];
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.#activation(this.fc1.forward(x)));
  }
}

/** Gate and up projection in one matrix, as in the weights of the giant model. */
class SwigluMlp extends Module {
  readonly weightsIn: Linear;
  readonly weightsOut: Linear;

  constructor({ hiddenSize, mlpRatio }: BlockConfig) {
    super();
    // As many numbers as the plain perceptron has: two thirds of its width, three matrices.
    const inner = Math.ceil(Math.floor((hiddenSize * mlpRatio * 2) / 3) / 8) * 8;
    this.weightsIn = new Linear(hiddenSize, 2 * inner, { init: normal(0.02) });
    this.weightsOut = new Linear(inner, hiddenSize, { init: normal(0.02) });
  }

  forward(x: Tensor): Tensor {
    const inner = this.weightsOut.weight.size(1);
    const [gate, up] = this.weightsIn.forward(x).split([inner, inner], -1) as [Tensor, Tensor];
    return this.weightsOut.forward(swiglu(gate.contiguous(), up.contiguous()));
  }
}

/** A learned gain of a residual branch. Touvron et al. 2021, arXiv:2103.17239. */
export class LayerScale extends Module {
  readonly lambda1: Tensor;

  constructor(width: number, start: number) {
    super();
    const init: Init = (tensor) => {
      tensor.fill_(start);
    };
    this.lambda1 = parameter([width], init);
  }

  forward(x: Tensor): Tensor {
    return x.mul(this.lambda1);
  }
}

class Dinov2Block extends Module {
  readonly norm1: LayerNorm;
  readonly attention: Attention;
  readonly layerScale1: LayerScale;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp | SwigluMlp;
  readonly layerScale2: LayerScale;

  constructor(config: BlockConfig) {
    super();
    const { hiddenSize, layerNormEps: eps, layerscaleValue } = config;
    this.norm1 = new LayerNorm(hiddenSize, { eps });
    this.attention = new Attention(config);
    this.layerScale1 = new LayerScale(hiddenSize, layerscaleValue);
    this.norm2 = new LayerNorm(hiddenSize, { eps });
    this.mlp = config.useSwigluFfn ? new SwigluMlp(config) : new Mlp(config);
    this.layerScale2 = new LayerScale(hiddenSize, layerscaleValue);
  }

  forward(x: Tensor): Tensor {
    const h = x.add(this.layerScale1.forward(this.attention.forward(this.norm1.forward(x))));
    return h.add(this.layerScale2.forward(this.mlp.forward(this.norm2.forward(h))));
  }
}

/** The blocks of DINOv2, with or without registers. */
export class Dinov2Encoder extends Module {
  readonly layer: readonly Dinov2Block[];

  constructor(config: BlockConfig & { numHiddenLayers: number }) {
    super();
    this.layer = Array.from({ length: config.numHiddenLayers }, () => new Dinov2Block(config));
  }

  /** `x` [B, T, C] to the wanted layers' outputs side by side, [B, T, C · wanted]. */
  features(x: Tensor, wanted: readonly number[]): Tensor {
    return layerFeatures(this.layer, x, wanted, (block, h) => block.forward(h));
  }
}

/** The patches' projection under the keys of DINOv2. */
export class Dinov2PatchEmbeddings extends Module {
  readonly projection: Conv2d;

  constructor({ hiddenSize, numChannels, patchSize }: { hiddenSize: number; numChannels: number; patchSize: number }) {
    super();
    this.projection = new Conv2d(numChannels, hiddenSize, { kernel: patchSize, stride: patchSize, init: normal(0.02) });
  }

  /** `pixels` [B, channels, H, W] to [B, P, C]. */
  forward(pixels: Tensor): Tensor {
    return this.projection.forward(pixels.cast(this.projection.weight.dtype)).flatten(2).transpose(1, 2);
  }
}

type EmbeddingsConfig = Pick<Dinov2Config, 'hiddenSize' | 'imageSize' | 'patchSize' | 'numChannels' | 'useMaskToken'>;

/** A class token and patches, each with its learned position. Dims: B images, P patches, T = P + 1 tokens, C width. */
export class Dinov2Embeddings extends Module {
  readonly clsToken: Tensor;
  readonly maskToken: Tensor | undefined;
  readonly patchEmbeddings: Dinov2PatchEmbeddings;
  readonly positionEmbeddings: Tensor;

  constructor(config: EmbeddingsConfig) {
    super();
    const { hiddenSize, imageSize, patchSize } = config;
    this.clsToken = parameter([1, 1, hiddenSize], normal(0.02));
    this.maskToken = config.useMaskToken ? parameter([1, hiddenSize], zeros) : undefined;
    this.patchEmbeddings = new Dinov2PatchEmbeddings(config);
    this.positionEmbeddings = parameter([1, Math.floor(imageSize / patchSize) ** 2 + 1, hiddenSize], normal(0.02));
  }

  forward(pixels: Tensor): Tensor {
    const patches = this.patchEmbeddings.forward(pixels);
    const [B, P, C] = sizes(patches, 'B P C');
    const [first, grid] = this.positionEmbeddings.squeeze(0).split([1, this.positionEmbeddings.size(1) - 1]) as [Tensor, Tensor];
    const classToken = this.clsToken.add(first).expand(B, 1, C);
    return cat([classToken, patches.add(resizePositions(grid, Math.sqrt(P)))], 1); // [B, T, C]
  }
}

/** A vision transformer that learned without labels or text. Oquab et al. 2023, arXiv:2304.07193. */
export class Dinov2Tower extends VisionTower {
  readonly embeddings: Dinov2Embeddings;
  readonly encoder: Dinov2Encoder;
  /** Never run: the features are taken before it. */
  readonly layernorm: LayerNorm;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #layers: readonly number[];
  readonly #first: number;

  constructor(config: Omit<Dinov2Config, 'type'>) {
    super();
    this.embeddings = new Dinov2Embeddings(config);
    this.encoder = new Dinov2Encoder(config);
    this.layernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.imageSize = config.inputSize ?? config.imageSize;
    this.#channels = config.numChannels;
    this.#layers = featureIndices(config.featureLayer, config.numHiddenLayers);
    this.#first = config.select === 'patch' ? 1 : 0;
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = Math.floor(this.imageSize / config.patchSize) ** 2 + 1 - this.#first;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    return this.encoder.features(this.embeddings.forward(pixels), this.#layers).narrow(1, this.#first, this.tokens);
  }
}

/** The registry entry of DINOv2 towers without registers. */
export const dinov2 = part({
  modelType: 'dinov2',
  schema: Dinov2Config,
  make: Dinov2Tower,
  inTransformers: () => true,
  read: ({ vision_feature_layer, vision_feature_select_strategy, ...json }) => ({
    ...json,
    feature_layer: vision_feature_layer ?? null,
    select: vision_feature_select_strategy === 'full' ? 'cls_patch' : 'patch',
  }),
  write: ({ feature_layer, select, ...json }) => ({
    ...withoutDefaults(json, { layerscale_value: 1 }),
    vision_feature_layer: feature_layer,
    vision_feature_select_strategy: select === 'patch' ? 'default' : 'full',
  }),
});
