import { gelu, quickGelu, relu, silu, swiglu } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Elementwise functions under the names that Hugging Face configurations use. */
export const activations = {
  gelu: (x: Tensor) => gelu(x, 'none'),
  gelu_pytorch_tanh: (x: Tensor) => gelu(x, 'tanh'),
  gelu_new: (x: Tensor) => gelu(x, 'tanh'),
  quick_gelu: quickGelu,
  silu,
  swish: silu,
  relu,
} satisfies Record<string, (x: Tensor) => Tensor>;

/** The name of an activation. */
export type ActivationName = keyof typeof activations;

/** Every name that `activations` has, as the tuple that a schema wants. */
export const activationNames = Object.keys(activations) as [ActivationName, ...ActivationName[]];

/** activation(gate) · up, the gated unit of an MLP. Shazeer 2020, arXiv:2002.05202. */
export function gates(name: ActivationName): (gate: Tensor, up: Tensor) => Tensor {
  return activations[name] === silu ? swiglu : (gate, up) => activations[name](gate).mul(up);
}
