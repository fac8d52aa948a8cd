import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { Conv2d } from '../../nn/conv.ts';
import type { KeyTable } from '../../nn/module.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';
import { Perceptron } from './mlp.ts';
import { averagePool, mapToTokens, tokensToMap } from './pooling.ts';

/** Settings of MobileVLM V2's connector. */
export const LdpV2Config = z.strictObject({
  type: z.literal('ldp-v2'),
  /** Side of the square of tokens that comes out. */
  side: z.int().positive().default(12),
});
export type LdpV2Config = z.output<typeof LdpV2Config>;

/**
 * A perceptron, averages of neighbouring tokens, and a depthwise convolution that tells where they are: the lightweight downsample projector.
 * Chu et al. 2024, arXiv:2402.03766. Dims: B images, N tokens in, M = side² out, C width.
 */
export class LdpV2Connector extends Connector {
  readonly mlp: Perceptron;
  readonly peg: Conv2d;
  readonly #side: number;

  constructor({ side }: LdpV2Config, { visionSize, visionTokens, languageSize }: ConnectorContext) {
    super();
    if (!Number.isInteger(Math.sqrt(visionTokens))) {
      throw new ConfigError(`ldp-v2 of ${visionTokens} tokens, which make no square`, { hint: 'leave the class token out' });
    }
    this.mlp = new Perceptron(visionSize, languageSize, { layers: 2, hiddenAct: 'gelu', bias: true });
    this.peg = new Conv2d(languageSize, languageSize, { kernel: 3, padding: 1, groups: languageSize });
    this.#side = side;
  }

  protected override get keys(): KeyTable {
    return { 'mlp.linear_1': 'mlp.mlp.0', 'mlp.linear_2': 'mlp.mlp.2', peg: 'peg.peg.0' };
  }

  tokens(): number {
    return this.#side ** 2;
  }

  forward(features: Tensor): Tensor {
    const pooled = averagePool(tokensToMap(this.mlp.forward(features)), this.#side); // [B, C, side, side]
    return mapToTokens(this.peg.forward(pooled).add(pooled));
  }
}

/** The registry entry of MobileVLM V2's connector. */
export const ldpV2 = part({ modelType: 'ldp_v2', schema: LdpV2Config, make: LdpV2Connector });
