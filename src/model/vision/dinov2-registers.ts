import { z } from 'zod';
import { normal, zeros } from '../../nn/init.ts';
import { Module, parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import { upsampleBicubicAa } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part, withoutDefaults } from '../part.ts';
import { Dinov2Encoder, Dinov2PatchEmbeddings, dinov2Shape } from './dinov2.ts';
import { resizePositions } from './positions.ts';
import { extraTokens, readSelection, selectTokens, TokenSelection, writeSelection } from './registers.ts';
import { VisionTower } from './vision-tower.ts';
import { featureIndices } from './vit.ts';

/** Settings of a DINOv2 tower with registers; the defaults are those of transformers' Dinov2WithRegistersConfig. */
export const Dinov2RegistersConfig = z.strictObject({
  type: z.literal('dinov2-registers'),
  ...dinov2Shape,
  patchSize: z.int().positive().default(16),
  numRegisterTokens: z.int().positive().default(4),
  select: TokenSelection,
});
export type Dinov2RegistersConfig = z.output<typeof Dinov2RegistersConfig>;

/** Dims: B images, P patches, R registers, T = 1 + R + P tokens, C width. */
class Embeddings extends Module {
  readonly clsToken: Tensor;
  readonly maskToken: Tensor;
  readonly patchEmbeddings: Dinov2PatchEmbeddings;
  readonly positionEmbeddings: Tensor;
  readonly registerTokens: Tensor;

  constructor(config: Dinov2RegistersConfig) {
    super();
    const { hiddenSize, imageSize, patchSize, numRegisterTokens } = config;
    this.clsToken = parameter([1, 1, hiddenSize], normal(0.02));
    this.maskToken = parameter([1, hiddenSize], zeros);
    this.patchEmbeddings = new Dinov2PatchEmbeddings(config);
    this.positionEmbeddings = parameter([1, Math.floor(imageSize / patchSize) ** 2 + 1, hiddenSize], normal(0.02));
    this.registerTokens = parameter([1, numRegisterTokens, hiddenSize], normal(0.02));
  }

  forward(pixels: Tensor): Tensor {
    const patches = this.patchEmbeddings.forward(pixels);
    const [B, P, C] = sizes(patches, 'B P C');
    const [first, grid] = this.positionEmbeddings.squeeze(0).split([1, this.positionEmbeddings.size(1) - 1]) as [Tensor, Tensor];
    const classToken = this.clsToken.add(first).expand(B, 1, C);
    const registers = this.registerTokens.expand(B, this.registerTokens.size(1), C);
    // Unlike DINOv2 without registers, these were trained with antialiased positions.
    return cat([classToken, registers, patches.add(resizePositions(grid, Math.sqrt(P), upsampleBicubicAa))], 1); // [B, T, C]
  }
}

/** DINOv2 with tokens that take what the patches would else be used to remember. Darcet et al. 2023, arXiv:2309.16588. */
export class Dinov2RegistersTower extends VisionTower {
  readonly embeddings: Embeddings;
  readonly encoder: Dinov2Encoder;
  /** Never run: the features are taken before it. */
  readonly layernorm: LayerNorm;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #config: Dinov2RegistersConfig;
  readonly #layers: readonly number[];

  constructor(config: Dinov2RegistersConfig) {
    super();
    this.embeddings = new Embeddings(config);
    this.encoder = new Dinov2Encoder(config);
    this.layernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.imageSize = config.inputSize ?? config.imageSize;
    this.#config = config;
    this.#layers = featureIndices(config.featureLayer, config.numHiddenLayers);
    this.hiddenSize = config.hiddenSize * this.#layers.length;
    this.tokens = Math.floor(this.imageSize / config.patchSize) ** 2 + extraTokens(config.select, config.numRegisterTokens);
  }

  forward(pixels: Tensor): Tensor {
    const { numChannels, numRegisterTokens, select } = this.#config;
    sizes(pixels, 'B channels H W', { channels: numChannels, H: this.imageSize, W: this.imageSize });
    const features = this.encoder.features(this.embeddings.forward(pixels), this.#layers);
    return selectTokens(features, select, numRegisterTokens);
  }
}

/** The registry entry of DINOv2 towers with registers. */
export const dinov2Registers = part({
  modelType: 'dinov2_with_registers',
  schema: Dinov2RegistersConfig,
  make: Dinov2RegistersTower,
  inTransformers: ({ select }) => select === 'register_patch' || select === 'full',
  read: readSelection,
  write: (json) => withoutDefaults(writeSelection(json), { layerscale_value: 1 }),
});
