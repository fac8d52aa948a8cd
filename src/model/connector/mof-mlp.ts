import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { stack } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';
import { Perceptron, perceptronShape } from './mlp.ts';

/** Settings of the connector of two towers' features. */
export const MofMlpConfig = z.strictObject({
  type: z.literal('mof-mlp'),
  /** Width of CLIP's features, which come first; half of all unless said otherwise. */
  clipSize: z.int().positive().optional(),
  ...perceptronShape,
});
export type MofMlpConfig = z.output<typeof MofMlpConfig>;

/** A perceptron for CLIP's features and one for DINOv2's; their tokens alternate. Tong et al. 2024, arXiv:2401.06209. */
export class MofMlpConnector extends Connector {
  readonly clip: Perceptron;
  readonly dinov2: Perceptron;
  readonly #widths: readonly [clip: number, dinov2: number];

  constructor({ clipSize, ...config }: MofMlpConfig, { visionSize, languageSize }: ConnectorContext) {
    super();
    const first = clipSize ?? visionSize / 2;
    if (!Number.isInteger(first) || first >= visionSize) {
      throw new ConfigError(`mof-mlp: ${first} of ${visionSize} features for CLIP`, {
        hint: "use the tower mof, and set clipSize to the width of CLIP's features",
      });
    }
    this.clip = new Perceptron(first, languageSize, config);
    this.dinov2 = new Perceptron(visionSize - first, languageSize, config);
    this.#widths = [first, visionSize - first];
  }

  tokens(visionTokens: number): number {
    return 2 * visionTokens;
  }

  forward(features: Tensor): Tensor {
    const [clip, dinov2] = features.split(this.#widths, 2) as [Tensor, Tensor];
    return stack([this.clip.forward(clip), this.dinov2.forward(dinov2)], 2).flatten(1, 2);
  }
}

/** The registry entry of the connector of two towers' features. */
export const mofMlp = part({ modelType: 'mof_mlp', schema: MofMlpConfig, make: MofMlpConnector });
