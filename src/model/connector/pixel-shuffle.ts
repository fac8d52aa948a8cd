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

/** Throws ConfigError unless the tokens are a square whose side divides by `factor`; gives its side. */
export function gridSide(visionTokens: number, factor: number): number {
  const side = Math.sqrt(visionTokens);
  if (Number.isInteger(side / factor)) return side;
  throw new ConfigError(`pixel-shuffle by ${factor} of ${visionTokens} tokens, which make no square of a side that divides by it`, {
    hint: 'choose an image size that fits, and leave the class token out',
  });
}

/** Squares of `factor` x `factor` tokens side by side, row by row: `features` [B, N, C] to [B, N / factor², C · factor²]. */
export function joinSquares(features: Tensor, { side, factor }: { side: number; factor: number }): Tensor {
  const [B, N, C] = sizes(features, 'B N C', { N: side ** 2 });
  const squares = features.reshape(B, side / factor, factor, side / factor, factor, C).permute(0, 1, 3, 2, 4, 5);
  return squares.reshape(B, N / factor ** 2, C * factor ** 2);
}

/** Neighbouring tokens side by side, then a perceptron: fewer tokens, nothing thrown away. Shi et al. 2016, arXiv:1609.05158. */
export class PixelShuffleConnector extends Connector {
  readonly perceptron: Perceptron;
  readonly #factor: number;
  readonly #side: number;

  constructor(config: PixelShuffleConfig, { visionSize, visionTokens, languageSize }: ConnectorContext) {
    super();
    this.#factor = config.factor;
    this.#side = gridSide(visionTokens, config.factor);
    this.perceptron = new Perceptron(visionSize * config.factor ** 2, languageSize, config);
  }

  protected override get keys(): KeyTable {
    return { perceptron: '' };
  }

  tokens(visionTokens: number): number {
    return visionTokens / this.#factor ** 2;
  }

  forward(features: Tensor): Tensor {
    return this.perceptron.forward(joinSquares(features, { side: this.#side, factor: this.#factor }));
  }
}

/** The registry entry of the pixel-shuffle connector. */
export const pixelShuffle = part({ modelType: 'pixel_shuffle', schema: PixelShuffleConfig, make: PixelShuffleConnector });
