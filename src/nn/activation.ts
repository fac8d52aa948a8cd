import { gelu, relu, type SigmoidForm, sigmoidUnit } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** An elementwise function; times `up` where it is given, the unit of a gated MLP. Shazeer 2020, arXiv:2002.05202. */
export type Activation = (x: Tensor, up?: Tensor) => Tensor;

const ofForm =
  (form: SigmoidForm): Activation =>
  (x, up) =>
    sigmoidUnit(x, form, up);
const composed =
  (activation: (x: Tensor) => Tensor): Activation =>
  (x, up) =>
    up ? activation(x).mul(up) : activation(x);

/** Activations under the names that Hugging Face configurations use. */
export const activations = {
  gelu: composed((x) => gelu(x, 'none')),
  gelu_pytorch_tanh: ofForm('gelu_tanh'),
  gelu_new: ofForm('gelu_tanh'),
  quick_gelu: ofForm('quick_gelu'),
  silu: ofForm('silu'),
  swish: ofForm('silu'),
  relu: composed(relu),
} satisfies Record<string, Activation>;

/** Whether an activation is made of operators that keep what each needs, and not of one kernel that gives it again. */
export const isComposed = (name: unknown): boolean => name === 'gelu' || name === 'relu';

/** The name of an activation. */
export type ActivationName = keyof typeof activations;

/** Every name that `activations` has, as the tuple that a schema wants. */
export const activationNames = Object.keys(activations) as [ActivationName, ...ActivationName[]];
