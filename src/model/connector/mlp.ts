import { z } from 'zod';
import { type ActivationName, activationNames, activations } from '../../nn/activation.ts';
import { Linear } from '../../nn/linear.ts';
import { type KeyTable, Module } from '../../nn/module.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';

const MAX_LAYERS = 8;

/** The settings of a perceptron with an activation between its layers. */
export const perceptronShape = {
  layers: z.int().min(1).max(MAX_LAYERS).default(2),
  hiddenAct: z.enum(activationNames).default('gelu'),
  bias: z.boolean().default(true),
};

/** Linear layers with an activation between them, under the keys `linear_1`, `linear_2`, … that transformers' LLaVA has. */
export class Perceptron extends Module {
  readonly layers: readonly Linear[];
  readonly #activation: (x: Tensor) => Tensor;
  static readonly #keys = Object.fromEntries(Array.from({ length: MAX_LAYERS }, (_, i) => [`layers.${i}`, `linear_${i + 1}`]));

  constructor(inputs: number, outputs: number, { layers, hiddenAct, bias }: { layers: number; hiddenAct: ActivationName; bias: boolean }) {
    super();
    this.layers = Array.from({ length: layers }, (_, i) => new Linear(i === 0 ? inputs : outputs, outputs, { bias }));
    this.#activation = activations[hiddenAct];
  }

  protected override get keys(): KeyTable {
    return Perceptron.#keys;
  }

  forward(x: Tensor): Tensor {
    return this.layers.reduce((h, layer, i) => layer.forward(i === 0 ? h : this.#activation(h)), x);
  }
}

/** Settings of the mlp connector; `layers: 2` and `gelu` are `mlp2x_gelu`. */
export const MlpConfig = z.strictObject({ type: z.literal('mlp'), ...perceptronShape });
export type MlpConfig = z.output<typeof MlpConfig>;

/** A perceptron for each token, as in LLaVA-1.5. Liu et al. 2023, arXiv:2310.03744. */
export class MlpConnector extends Connector {
  readonly perceptron: Perceptron;

  constructor(config: MlpConfig, { visionSize, languageSize }: ConnectorContext) {
    super();
    this.perceptron = new Perceptron(visionSize, languageSize, config);
  }

  // The perceptron's keys are the connector's own.
  protected override get keys(): KeyTable {
    return { perceptron: '' };
  }

  tokens(visionTokens: number): number {
    return visionTokens;
  }

  forward(features: Tensor): Tensor {
    return this.perceptron.forward(features);
  }
}

/** The registry entry of the mlp connector. */
export const mlp = part({ modelType: 'mlp', schema: MlpConfig, make: MlpConnector, inTransformers: ({ layers }) => layers === 2 });
