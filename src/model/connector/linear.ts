import { z } from 'zod';
import { Linear } from '../../nn/linear.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';

/** Settings of the linear connector. */
export const LinearConfig = z.strictObject({ type: z.literal('linear'), bias: z.boolean().default(true) });
export type LinearConfig = z.output<typeof LinearConfig>;

/** One affine map, as in the first LLaVA. Liu et al. 2023, arXiv:2304.08485. */
export class LinearConnector extends Connector {
  readonly linear: Linear;

  constructor({ bias }: LinearConfig, { visionSize, languageSize }: ConnectorContext) {
    super();
    this.linear = new Linear(visionSize, languageSize, { bias });
  }

  tokens(visionTokens: number): number {
    return visionTokens;
  }

  forward(features: Tensor): Tensor {
    return this.linear.forward(features);
  }
}

/** The registry entry of the linear connector. */
export const linear = part({ modelType: 'linear', schema: LinearConfig, make: LinearConnector });
