import { layerNorm, rmsNorm } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ones, zeros } from './init.ts';
import { Module, parameter } from './module.ts';

/** What normalizes its input and then multiplies it by a gain: weight decay leaves all of it alone. */
export abstract class Norm extends Module {
  abstract readonly weight: Tensor;
}

/** Layer normalization over the last dimension. Ba et al. 2016, arXiv:1607.06450. */
export class LayerNorm extends Norm {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  readonly eps: number;

  constructor(width: number, { eps = 1e-5, bias = true }: { eps?: number; bias?: boolean } = {}) {
    super();
    this.weight = parameter([width], ones);
    this.bias = bias ? parameter([width], zeros) : undefined;
    this.eps = eps;
  }

  /** `x` [..., width], same shape out. */
  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** Root-mean-square normalization over the last dimension, computed in float32. Zhang & Sennrich 2019, arXiv:1910.07467. */
export class RmsNorm extends Norm {
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

/** Root-mean-square normalization whose gain is 1 + weight, in float32 to the end: Gemma's. */
export class OffsetRmsNorm extends Norm {
  readonly weight: Tensor;
  readonly eps: number;

  constructor(width: number, { eps = 1e-6 }: { eps?: number } = {}) {
    super();
    this.weight = parameter([width], zeros);
    this.eps = eps;
  }

  /** `x` [..., width], same shape out. */
  forward(x: Tensor): Tensor {
    // 1 + weight would lose small weights in bfloat16, and Gemma rounds behind the gain, not before it.
    return rmsNorm(x.cast('float32'), this.weight.cast('float32').add(1), this.eps).cast(x.dtype);
  }
}
