import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { type Activation, activations } from '../../nn/activation.ts';
import { batchAttention } from '../../nn/attention.ts';
import { Conv2d } from '../../nn/conv.ts';
import { normal, zeros } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { Module, parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { type RotaryAngles, rotate } from '../../nn/rope.ts';
import { cat, tensor } from '../../tensor/create.ts';
import type { Device } from '../../tensor/device.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part, withoutDefaults } from '../part.ts';
import { LayerScale } from './dinov2.ts';
import { extraTokens, readSelection, selectTokens, TokenSelection, writeSelection } from './registers.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer, featureIndices, InputSize, layerFeatures, vitShape } from './vit.ts';

/** Settings of a DINOv3 tower; the defaults are those of transformers' DINOv3ViTConfig. */
export const Dinov3Config = z.strictObject({
  type: z.literal('dinov3'),
  hiddenSize: vitShape.hiddenSize.default(384),
  intermediateSize: vitShape.intermediateSize.default(1536),
  numHiddenLayers: vitShape.numHiddenLayers.default(12),
  numAttentionHeads: vitShape.numAttentionHeads.default(6),
  numChannels: z.int().positive().default(3),
  imageSize: z.int().positive().default(224),
  inputSize: InputSize,
  patchSize: z.int().positive().default(16),
  numRegisterTokens: z.int().nonnegative().default(0),
  hiddenAct: vitShape.hiddenAct.default('gelu'),
  useGatedMlp: z.boolean().default(false),
  layerNormEps: vitShape.layerNormEps.default(1e-5),
  ropeTheta: z.number().positive().default(100),
  queryBias: z.boolean().default(true),
  keyBias: z.boolean().default(false),
  valueBias: z.boolean().default(true),
  projBias: z.boolean().default(true),
  mlpBias: z.boolean().default(true),
  /** Where the gains of the residual branches start. */
  layerscaleValue: z.number().default(1),
  featureLayer: FeatureLayer.default(-2),
  select: TokenSelection,
});
export type Dinov3Config = z.output<typeof Dinov3Config>;

/** Dims: B images, T tokens, C width, H heads, D head size. */
class Attention extends Module {
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly qProj: Linear;
  readonly oProj: Linear;
  readonly #heads: number;

  constructor({ hiddenSize, numAttentionHeads, queryBias, keyBias, valueBias, projBias }: Dinov3Config) {
    super();
    // A head's rotations come in fours: sine and cosine, vertical and horizontal.
    if (hiddenSize % (4 * numAttentionHeads) !== 0) {
      throw new ConfigError(`hiddenSize ${hiddenSize} is not a multiple of 4 times the ${numAttentionHeads} attention heads`);
    }
    const init = normal(0.02);
    this.kProj = new Linear(hiddenSize, hiddenSize, { init, bias: keyBias });
    this.vProj = new Linear(hiddenSize, hiddenSize, { init, bias: valueBias });
    this.qProj = new Linear(hiddenSize, hiddenSize, { init, bias: queryBias });
    this.oProj = new Linear(hiddenSize, hiddenSize, { init, bias: projBias });
    this.#heads = numAttentionHeads;
  }

  forward(x: Tensor, angles: RotaryAngles): Tensor {
    const [B, T, C] = sizes(x, 'B T C');
    const shape = [B, T, this.#heads, C / this.#heads] as const;
    const turned = (y: Tensor): Tensor => rotate(y.view(B * T, this.#heads, C / this.#heads), angles).view(...shape); // [B, T, H, D]
    const [q, k] = [turned(this.qProj.forward(x)), turned(this.kProj.forward(x))];
    return this.oProj.forward(batchAttention(q, k, this.vProj.forward(x).view(...shape), { causal: false }));
  }
}

class Mlp extends Module {
  readonly upProj: Linear;
  readonly downProj: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor({ hiddenSize, intermediateSize, hiddenAct, mlpBias: bias }: Dinov3Config) {
    super();
    this.upProj = new Linear(hiddenSize, intermediateSize, { init: normal(0.02), bias });
    this.downProj = new Linear(intermediateSize, hiddenSize, { init: normal(0.02), bias });
    this.#activation = activations[hiddenAct];
  }

  forward(x: Tensor): Tensor {
    return this.downProj.forward(this.#activation(this.upProj.forward(x)));
  }
}

class GatedMlp extends Module {
  readonly gateProj: Linear;
  readonly upProj: Linear;
  readonly downProj: Linear;
  readonly #gate: Activation;

  constructor({ hiddenSize, intermediateSize, hiddenAct, mlpBias: bias }: Dinov3Config) {
    super();
    this.gateProj = new Linear(hiddenSize, intermediateSize, { init: normal(0.02), bias });
    this.upProj = new Linear(hiddenSize, intermediateSize, { init: normal(0.02), bias });
    this.downProj = new Linear(intermediateSize, hiddenSize, { init: normal(0.02), bias });
    this.#gate = activations[hiddenAct];
  }

  forward(x: Tensor): Tensor {
    return this.downProj.forward(this.#gate(this.gateProj.forward(x), this.upProj.forward(x)));
  }
}

class Block extends Module {
  readonly norm1: LayerNorm;
  readonly attention: Attention;
  readonly layerScale1: LayerScale;
  readonly norm2: LayerNorm;
  readonly mlp: Mlp | GatedMlp;
  readonly layerScale2: LayerScale;

  constructor(config: Dinov3Config) {
    super();
    const { hiddenSize, layerNormEps: eps, layerscaleValue } = config;
    this.norm1 = new LayerNorm(hiddenSize, { eps });
    this.attention = new Attention(config);
    this.layerScale1 = new LayerScale(hiddenSize, layerscaleValue);
    this.norm2 = new LayerNorm(hiddenSize, { eps });
    this.mlp = config.useGatedMlp ? new GatedMlp(config) : new Mlp(config);
    this.layerScale2 = new LayerScale(hiddenSize, layerscaleValue);
  }

  forward(x: Tensor, angles: RotaryAngles): Tensor {
    const h = x.add(this.layerScale1.forward(this.attention.forward(this.norm1.forward(x), angles)));
    return h.add(this.layerScale2.forward(this.mlp.forward(this.norm2.forward(h))));
  }
}

/** Dims: B images, R registers, P patches, T = 1 + R + P tokens, C width. */
class Embeddings extends Module {
  readonly clsToken: Tensor;
  readonly maskToken: Tensor;
  readonly registerTokens: Tensor;
  readonly patchEmbeddings: Conv2d;

  constructor({ hiddenSize, numChannels, patchSize, numRegisterTokens }: Dinov3Config) {
    super();
    this.clsToken = parameter([1, 1, hiddenSize], normal(0.02));
    this.maskToken = parameter([1, 1, hiddenSize], zeros);
    this.registerTokens = parameter([1, numRegisterTokens, hiddenSize], normal(0.02));
    this.patchEmbeddings = new Conv2d(numChannels, hiddenSize, { kernel: patchSize, stride: patchSize, init: normal(0.02) });
  }

  forward(pixels: Tensor): Tensor {
    const patches = this.patchEmbeddings.forward(pixels.cast(this.patchEmbeddings.weight.dtype)).flatten(2).transpose(1, 2);
    const [B, , C] = sizes(patches, 'B P C');
    return cat([this.clsToken.expand(B, 1, C), this.registerTokens.expand(B, this.registerTokens.size(1), C), patches], 1); // [B, T, C]
  }
}

/**
 * Angles [T, D / 2] of the patches' centres, row and column each from -1 to 1, a full turn a unit at the highest frequency; the tokens before
 * them are not turned.
 */
function patchAngles(side: number, { extra, headSize, theta }: { extra: number; headSize: number; theta: number }): Float32Array {
  const frequencies = Array.from({ length: headSize / 4 }, (_, i) => 2 * Math.PI * theta ** (-(4 * i) / headSize));
  const angles = new Float32Array((extra + side * side) * (headSize / 2));
  let at = extra * (headSize / 2);
  for (let patch = 0; patch < side * side; patch++) {
    for (const cell of [Math.floor(patch / side), patch % side]) {
      for (const frequency of frequencies) angles[at++] = ((2 * cell + 1) / side - 1) * frequency;
    }
  }
  return angles;
}

/** A vision transformer that learned without labels, with positions as rotations. Siméoni et al. 2025, arXiv:2508.10104. */
export class Dinov3Tower extends VisionTower {
  readonly embeddings: Embeddings;
  readonly layer: readonly Block[];
  /** Never run: the features are taken before it. */
  readonly norm: LayerNorm;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #config: Dinov3Config;
  readonly #layers: readonly number[];
  readonly #side: number;

  constructor(config: Dinov3Config) {
    super();
    this.embeddings = new Embeddings(config);
    this.layer = Array.from({ length: config.numHiddenLayers }, () => new Block(config));
    this.norm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.imageSize = config.inputSize ?? config.imageSize;
    this.#config = config;
    this.#layers = featureIndices(config.featureLayer, config.numHiddenLayers);
    this.#side = Math.floor(this.imageSize / config.patchSize);
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = this.#side ** 2 + extraTokens(config.select, config.numRegisterTokens);
  }

  forward(pixels: Tensor): Tensor {
    const { numChannels, numRegisterTokens, select } = this.#config;
    const [B] = sizes(pixels, 'B channels H W', { channels: numChannels, H: this.imageSize, W: this.imageSize });
    const x = this.embeddings.forward(pixels);
    const angles = this.#angles(B, x.device);
    const features = layerFeatures(this.layer, x, this.#layers, (block, h) => block.forward(h, angles));
    return selectTokens(features, select, numRegisterTokens);
  }

  /** Of the tokens of `images` images, one behind the other: [B · T, D / 2]. */
  #angles(images: number, device: Device): RotaryAngles {
    const { hiddenSize, numAttentionHeads, ropeTheta: theta, numRegisterTokens } = this.#config;
    const headSize = hiddenSize / numAttentionHeads;
    const values = patchAngles(this.#side, { extra: 1 + numRegisterTokens, headSize, theta });
    const angles = tensor(values, { device }).view(-1, headSize / 2);
    return { cos: angles.cos().repeat(images, 1), sin: angles.sin().repeat(images, 1) };
  }
}

/** The registry entry of DINOv3 towers. */
export const dinov3 = part({
  modelType: 'dinov3_vit',
  schema: Dinov3Config,
  make: Dinov3Tower,
  inTransformers: ({ select }) => select === 'register_patch' || select === 'full',
  read: readSelection,
  write: (json) => withoutDefaults(writeSelection(json), { layerscale_value: 1, rope_theta: 100 }),
});
