import type { Tensor } from '../tensor/tensor.ts';
import { type Activation, type ActivationName, activations } from './activation.ts';
import type { Init } from './init.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';

/** down(activation(gate(x)) · up(x)), the perceptron of Llama and most since. Shazeer 2020, arXiv:2002.05202. */
export class GatedMlp extends Module {
  readonly gateProj: Linear;
  readonly upProj: Linear;
  readonly downProj: Linear;
  readonly #gate: Activation;

  constructor(
    width: number,
    inner: number,
    { activation = 'silu', bias = false, init }: { activation?: ActivationName; bias?: boolean; init: Init },
  ) {
    super();
    this.gateProj = new Linear(width, inner, { bias, init });
    this.upProj = new Linear(width, inner, { bias, init });
    this.downProj = new Linear(inner, width, { bias, init });
    this.#gate = activations[activation];
  }

  /** `x` [..., width], same shape out. */
  forward(x: Tensor): Tensor {
    return this.downProj.forward(this.#gate(this.gateProj.forward(x), this.upProj.forward(x)));
  }
}
