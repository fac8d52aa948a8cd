import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { activations } from '../../nn/activation.ts';
import { Conv2d } from '../../nn/conv.ts';
import { normal } from '../../nn/init.ts';
import { parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { VisionTower } from './vision-tower.ts';
import { VitEncoder, vitShape } from './vit.ts';

/** Settings of a small tower that learns from scratch. */
export const ConvVitConfig = z.strictObject({
  type: z.literal('conv-vit'),
  imageSize: z.int().positive().default(64),
  numChannels: z.int().positive().default(3),
  /** Channels of each convolution of the stem; each halves the image's side. Where the last is not hiddenSize, a projection follows. */
  stemChannels: z.array(z.int().positive()).min(1).default([32, 64, 128]),
  hiddenSize: vitShape.hiddenSize.default(128),
  intermediateSize: vitShape.intermediateSize.default(512),
  numHiddenLayers: vitShape.numHiddenLayers.default(2),
  numAttentionHeads: vitShape.numAttentionHeads.default(4),
  hiddenAct: vitShape.hiddenAct.default('gelu_pytorch_tanh'),
  layerNormEps: vitShape.layerNormEps.default(1e-6),
});
export type ConvVitConfig = z.output<typeof ConvVitConfig>;

/** Starting weights that keep the scale of what passes through an activation. He et al. 2015, arXiv:1502.01852. */
const he = (inputs: number) => normal(Math.sqrt(2 / inputs));

/** A vision transformer behind a stem of convolutions, which learns from far fewer images than plain patches. Xiao et al. 2021, arXiv:2106.14881. */
export class ConvVitTower extends VisionTower {
  readonly stem: readonly Conv2d[];
  readonly projection: Conv2d | undefined;
  readonly stemNorm: LayerNorm;
  readonly positionEmbedding: Tensor;
  readonly encoder: VitEncoder;
  readonly postLayernorm: LayerNorm;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(config: ConvVitConfig) {
    super();
    const { stemChannels, numChannels, hiddenSize, imageSize, layerNormEps: eps } = config;
    const side = imageSize / 2 ** stemChannels.length;
    if (!Number.isInteger(side)) throw new ConfigError(`imageSize ${imageSize} cannot be halved ${stemChannels.length} times`);
    // No norm in between: one over the channels of a place cannot tell grey from black.
    this.stem = stemChannels.map((outputs, i) => {
      const inputs = stemChannels[i - 1] ?? numChannels;
      return new Conv2d(inputs, outputs, { kernel: 3, stride: 2, padding: 1, init: he(9 * inputs) });
    });
    const last = stemChannels.at(-1) ?? numChannels;
    this.projection = last === hiddenSize ? undefined : new Conv2d(last, hiddenSize, { kernel: 1 });
    this.stemNorm = new LayerNorm(hiddenSize, { eps });
    this.positionEmbedding = parameter([side * side, hiddenSize], normal(0.02));
    this.encoder = new VitEncoder(config);
    this.postLayernorm = new LayerNorm(hiddenSize, { eps });
    this.imageSize = imageSize;
    this.hiddenSize = hiddenSize;
    this.tokens = side * side;
    this.#channels = numChannels;
    this.#activation = activations[config.hiddenAct];
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    const convolutions = this.projection ? [...this.stem, this.projection] : this.stem;
    const map = convolutions.reduce(
      (x, convolution, i) => convolution.forward(i === 0 ? x : this.#activation(x)),
      pixels.cast(this.stemNorm.weight.dtype),
    );
    const x = this.stemNorm.forward(map.flatten(2).transpose(1, 2)).add(this.positionEmbedding); // [B, N, C]
    return this.postLayernorm.forward(this.encoder.features(x, [this.encoder.layers.length]));
  }
}

/** The registry entry of small towers with a convolutional stem. */
export const convVit = part({ modelType: 'conv_vit', schema: ConvVitConfig, make: ConvVitTower });
