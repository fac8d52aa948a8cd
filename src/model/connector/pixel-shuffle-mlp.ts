import { z } from 'zod';
import type { KeyTable } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';
import { Perceptron, perceptronShape } from './mlp.ts';
import { gridSide, joinSquares } from './pixel-shuffle.ts';

/** Settings of the pixel-shuffle connector with a norm: squares of `factor` x `factor` tokens become one. */
export const PixelShuffleMlpConfig = z.strictObject({
  type: z.literal('pixel-shuffle-mlp'),
  factor: z.int().min(2).default(2),
  ...perceptronShape,
});
export type PixelShuffleMlpConfig = z.output<typeof PixelShuffleMlpConfig>;

/** Neighbouring tokens side by side, a norm, and a perceptron, as in InternVL. Chen et al. 2024, arXiv:2404.16821. */
export class PixelShuffleMlpConnector extends Connector {
  readonly layerNorm: LayerNorm;
  readonly perceptron: Perceptron;
  readonly #factor: number;
  readonly #side: number;

  constructor(config: PixelShuffleMlpConfig, { visionSize, visionTokens, languageSize }: ConnectorContext) {
    super();
    this.#factor = config.factor;
    this.#side = gridSide(visionTokens, config.factor);
    this.layerNorm = new LayerNorm(visionSize * config.factor ** 2);
    this.perceptron = new Perceptron(visionSize * config.factor ** 2, languageSize, config);
  }

  protected override get keys(): KeyTable {
    return { perceptron: '' };
  }

  tokens(visionTokens: number): number {
    return visionTokens / this.#factor ** 2;
  }

  forward(features: Tensor): Tensor {
    const squares = joinSquares(features, { side: this.#side, factor: this.#factor });
    return this.perceptron.forward(this.layerNorm.forward(squares));
  }
}

/** The registry entry of the pixel-shuffle connector with a norm. */
export const pixelShuffleMlp = part({ modelType: 'pixel_shuffle_mlp', schema: PixelShuffleMlpConfig, make: PixelShuffleMlpConnector });
