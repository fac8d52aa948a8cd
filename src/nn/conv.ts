import { conv2d } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Init, uniformFanIn, zeros } from './init.ts';
import { Module, parameter } from './module.ts';

/** A two-dimensional convolution with a square kernel; `weight` [outputs, inputs / groups, kernel, kernel]. */
export class Conv2d extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  readonly stride: number;
  readonly padding: number;
  readonly groups: number;

  constructor(
    inputs: number,
    outputs: number,
    {
      kernel,
      stride = 1,
      padding = 0,
      groups = 1,
      bias = true,
      init,
    }: { kernel: number; stride?: number; padding?: number; groups?: number; bias?: boolean; init?: Init },
  ) {
    super();
    this.weight = parameter([outputs, inputs / groups, kernel, kernel], init ?? uniformFanIn((inputs / groups) * kernel * kernel));
    this.bias = bias ? parameter([outputs], zeros) : undefined;
    this.stride = stride;
    this.padding = padding;
    this.groups = groups;
  }

  /** `x` [B, inputs, H, W] to [B, outputs, H', W']. */
  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, { stride: this.stride, padding: this.padding, groups: this.groups });
  }
}
