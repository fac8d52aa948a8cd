import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import type { KeyTable } from '../../nn/module.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';
import { Perceptron, perceptronShape } from './mlp.ts';

/** Settings of the pixel-shuffle connector: squares of `factor` x `factor` tokens become one. */
export const PixelShuffleConfig = z.strictObject({
  type: z.literal('pixel-shuffle'),
  factor: z.int().min(2).default(2),
  ...perceptronShape,
});
export type PixelShuffleConfig = z.output<typeof PixelShuffleConfig>;

/** Neighbouring tokens side by side, then a perceptron: fewer tokens, nothing thrown away. Shi et al. 2016, arXiv:1609.05158. */
export class PixelShuffleConnector extends Connector {
  readonly perceptron: Perceptron;
  readonly #factor: number;
  readonly #side: number;

  constructor(config: PixelShuffleConfig, { visionSize, visionTokens, languageSize }: ConnectorContext) {
    super();
    this.#factor = config.factor;
    this.#side = Math.sqrt(visionTokens);
    if (!Number.isInteger(this.#side / config.factor)) {
      throw new ConfigError(
        `pixel-shuffle by ${config.factor} of ${visionTokens} tokens, which make no square of a side that divides by it`,
        {
          hint: 'choose an image size that fits, and leave the class token out',
        },
      );
    }
    this.perceptron = new Perceptron(visionSize * config.factor ** 2, languageSize, config);
  }

  protected override get keys(): KeyTable {
    return { perceptron: '' };
  }

  tokens(visionTokens: number): number {
    return visionTokens / this.#factor ** 2;
  }

  forward(features: Tensor): Tensor {
    const [B, N, C] = sizes(features, 'B N C', { N: this.#side ** 2 });
    const [factor, side] = [this.#factor, this.#side / this.#factor];
    const squares = features.view(B, side, factor, side, factor, C).permute(0, 1, 3, 2, 4, 5);
    return this.perceptron.forward(squares.reshape(B, N / factor ** 2, C * factor ** 2));
  }
}

/** The registry entry of the pixel-shuffle connector. */
export const pixelShuffle = part({ modelType: 'pixel_shuffle', schema: PixelShuffleConfig, make: PixelShuffleConnector });
