import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { type ActivationName, activations } from '../../nn/activation.ts';
import { Conv2d } from '../../nn/conv.ts';
import { normal } from '../../nn/init.ts';
import { Module, parameter } from '../../nn/module.ts';
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
  /** Channels of each convolution of the stem; each halves the image's side. */
  stemChannels: z.array(z.int().positive()).min(1).default([32, 64, 128]),
  hiddenSize: vitShape.hiddenSize.default(128),
  intermediateSize: vitShape.intermediateSize.default(512),
  numHiddenLayers: vitShape.numHiddenLayers.default(2),
  numAttentionHeads: vitShape.numAttentionHeads.default(4),
  hiddenAct: vitShape.hiddenAct.default('gelu_pytorch_tanh'),
  layerNormEps: vitShape.layerNormEps.default(1e-6),
});
export type ConvVitConfig = z.output<typeof ConvVitConfig>;

/** Dims: B images, F channels, H and W the sides of the map. */
class StemStage extends Module {
  readonly conv: Conv2d;
  readonly norm: LayerNorm;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(inputs: number, outputs: number, { eps, act }: { eps: number; act: ActivationName }) {
    super();
    this.conv = new Conv2d(inputs, outputs, { kernel: 3, stride: 2, padding: 1, bias: false });
    this.norm = new LayerNorm(outputs, { eps });
    this.#activation = activations[act];
  }

  forward(x: Tensor): Tensor {
    const channelsLast = this.conv.forward(x).permute(0, 2, 3, 1); // [B, H, W, F]
    return this.#activation(this.norm.forward(channelsLast)).permute(0, 3, 1, 2); // [B, F, H, W]
  }
}

/** A vision transformer behind a stem of convolutions, which learns from far fewer images than plain patches. Xiao et al. 2021, arXiv:2106.14881. */
export class ConvVitTower extends VisionTower {
  readonly stem: readonly StemStage[];
  readonly projection: Conv2d;
  readonly positionEmbedding: Tensor;
  readonly encoder: VitEncoder;
  readonly postLayernorm: LayerNorm;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;

  constructor(config: ConvVitConfig) {
    super();
    const { stemChannels, numChannels, hiddenSize, imageSize, layerNormEps: eps, hiddenAct: act } = config;
    const side = imageSize / 2 ** stemChannels.length;
    if (!Number.isInteger(side)) throw new ConfigError(`imageSize ${imageSize} cannot be halved ${stemChannels.length} times`);
    this.stem = stemChannels.map((outputs, i) => new StemStage(stemChannels[i - 1] ?? numChannels, outputs, { eps, act }));
    this.projection = new Conv2d(stemChannels.at(-1) ?? numChannels, hiddenSize, { kernel: 1 });
    this.positionEmbedding = parameter([side * side, hiddenSize], normal(0.02));
    this.encoder = new VitEncoder(config);
    this.postLayernorm = new LayerNorm(hiddenSize, { eps });
    this.imageSize = imageSize;
    this.hiddenSize = hiddenSize;
    this.tokens = side * side;
    this.#channels = numChannels;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    let map = pixels.cast(this.projection.weight.dtype);
    for (const stage of this.stem) map = stage.forward(map);
    const x = this.projection.forward(map).flatten(2).transpose(1, 2).add(this.positionEmbedding); // [B, N, C]
    return this.postLayernorm.forward(this.encoder.features(x, [this.encoder.layers.length]));
  }
}

/** The registry entry of small towers with a convolutional stem. */
export const convVit = part({ modelType: 'conv_vit', schema: ConvVitConfig, make: ConvVitTower });
