import type { Generator } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Fills a fresh tensor in place with starting values. */
export type Init = (tensor: Tensor, generator: Generator) => void;

/** All zeros, the usual start of biases. */
export const zeros: Init = (tensor) => {
  tensor.zero_();
};

/** All ones, the usual start of a norm's gain. */
export const ones: Init = (tensor) => {
  tensor.fill_(1);
};

/** Normal values around 0. */
export function normal(standardDeviation: number): Init {
  return (tensor, generator) => {
    tensor.normal_({ std: standardDeviation, generator });
  };
}

/** Uniform in ±1/√inputs, PyTorch's start of linear layers and convolutions; `inputs` is what one output sums over. */
export function uniformFanIn(inputs: number): Init {
  const bound = 1 / Math.sqrt(inputs);
  return (tensor, generator) => {
    tensor.uniform_({ from: -bound, to: bound, generator });
  };
}

/** Uniform in ±√(6 / (inputs + outputs)) for a weight [outputs, inputs]. Glorot & Bengio 2010. */
export const xavierUniform: Init = (tensor, generator) => {
  const bound = Math.sqrt(6 / (tensor.size(0) + tensor.size(1)));
  tensor.uniform_({ from: -bound, to: bound, generator });
};
