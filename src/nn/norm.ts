import { layerNorm, rmsNorm } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ones, zeros } from './init.ts';
import { Module, parameter } from './module.ts';

/** Layer normalization over the last dimension. Ba et al. 2016, arXiv:1607.06450. */
export class LayerNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly eps: number;

  constructor(width: number, { eps = 1e-5 }: { eps?: number } = {}) {
    super();
    this.weight = parameter([width], ones);
    this.bias = parameter([width], zeros);
    this.eps = eps;
  }

  /** `x` [..., width], same shape out. */
  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** Root-mean-square normalization over the last dimension, computed in float32. Zhang & Sennrich 2019, arXiv:1910.07467. */
export class RmsNorm extends Module {
  readonly weight: Tensor;
  readonly eps: number;

  constructor(width: number, { eps = 1e-6 }: { eps?: number } = {}) {
    super();
    this.weight = parameter([width], ones);
    this.eps = eps;
  }

  /** `x` [..., width], same shape out. */
  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.eps);
  }
}
