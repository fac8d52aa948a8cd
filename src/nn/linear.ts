import { linear } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Init, uniformFanIn, zeros } from './init.ts';
import { Module, parameter } from './module.ts';

/** An affine map of the last dimension; `weight` [outputs, inputs]. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;

  constructor(inputs: number, outputs: number, { bias = true, init, biasInit }: { bias?: boolean; init?: Init; biasInit?: Init } = {}) {
    super();
    this.weight = parameter([outputs, inputs], init ?? uniformFanIn(inputs));
    // With a chosen weight recipe the bias starts at zero, as transformers does; PyTorch's own default draws it too.
    this.bias = bias ? parameter([outputs], biasInit ?? (init ? zeros : uniformFanIn(inputs))) : undefined;
  }

  get weightShape(): readonly [outputs: number, inputs: number] {
    return [this.weight.size(0), this.weight.size(1)];
  }

  /** A layer around tensors that exist. */
  static of(weight: Tensor, bias?: Tensor): Linear {
    const made = new Linear(weight.size(1), weight.size(0), { bias: false });
    made.weight.free();
    return Object.assign(made, { weight, bias });
  }

  /** Gives back the memory of the weight; the bias stays. */
  free(): void {
    this.weight.free();
  }

  /** `x` [..., inputs] to [..., outputs]. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
