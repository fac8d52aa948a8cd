import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';

/** Settings of the identity connector: none. */
export const IdentityConfig = z.strictObject({ type: z.literal('identity') });
export type IdentityConfig = z.output<typeof IdentityConfig>;

/** Hands the features on as they are, for a tower as wide as the language model. */
export class IdentityConnector extends Connector {
  constructor(_: IdentityConfig, { visionSize, languageSize }: ConnectorContext) {
    super();
    if (visionSize !== languageSize) {
      throw new ConfigError(
        `the identity connector joins equal widths, got features of ${visionSize} and a language model of ${languageSize}`,
        {
          hint: 'use a linear or mlp connector',
        },
      );
    }
  }

  tokens(visionTokens: number): number {
    return visionTokens;
  }

  forward(features: Tensor): Tensor {
    return features;
  }
}

/** The registry entry of the identity connector. */
export const identity = part({ modelType: 'identity', schema: IdentityConfig, make: IdentityConnector });
