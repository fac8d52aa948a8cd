import type { Module } from '../nn/module.ts';
import { noGrad } from '../tensor/autograd.ts';
import { empty } from '../tensor/create.ts';
import { type DType, dtypeBytes, isFloating } from '../tensor/dtype.ts';
import { joinHalves, splitHalves_ } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** How a recipe's numbers are kept: what layers compute in, and what the weights that learn are kept and saved in. */
export const precisions = {
  float32: { compute: 'float32', weights: 'float32' },
  bfloat16: { compute: 'bfloat16', weights: 'float32' },
  'bfloat16-pure': { compute: 'bfloat16', weights: 'bfloat16' },
  float16: { compute: 'float16', weights: 'float32' },
} as const satisfies Record<string, { readonly compute: DType; readonly weights: DType }>;
export type Precision = keyof typeof precisions;

/** Bytes that `Masters` keeps beside a parameter that learns. */
export function besideBytes(precision: Precision): number {
  const { compute, weights } = precisions[precision];
  if (compute === weights) return 0;
  return compute === 'bfloat16' ? dtypeBytes('int16') : dtypeBytes(weights);
}

/**
 * The float32 weights behind a model that computes in a narrower dtype, for those of its parameters that learn, by key. What is frozen is
 * rounded once and takes half the memory. Micikevicius et al. 2018, arXiv:1710.03740. A bfloat16 parameter is the upper half of its weight, and only
 * the lower half is kept beside it, as `splitHalves_` makes them.
 */
export class Masters {
  readonly #model: Module;
  readonly #beside = new Map<string, Tensor>();

  /** Casts the model; those parameters have masters that learn, unless `keeps` says otherwise. */
  constructor(model: Module, precision: Precision, keeps = ({ requiresGrad }: Tensor): boolean => requiresGrad) {
    this.#model = model;
    const { compute, weights } = precisions[precision];
    model.exchange((parameter, key) => {
      const { dtype, requiresGrad } = parameter;
      if (!isFloating(dtype)) return undefined;
      const kept = weights !== compute && keeps(parameter);
      if (dtype === compute && !kept) return undefined;
      const [lowered, beside] = kept ? loweredWithMaster(parameter, compute) : [castOf(parameter, compute)];
      if (beside) this.#beside.set(key, beside);
      parameter.free();
      return lowered.requiresGrad_(requiresGrad);
    });
  }

  /** What optimizers take as masters: float32 weights, or the lower halves of bfloat16 ones, int16. */
  get beside(): ReadonlyMap<string, Tensor> {
    return this.#beside;
  }

  /** Casts a model whose learned weights are float32 for use, and keeps them. */
  static behind(model: Module, precision: Precision): Masters {
    return new Masters(model, precision, ({ dtype }) => dtype === 'float32');
  }

  /** Puts what `change` gives for a tensor beside a parameter in its place, and frees the old one. */
  exchange(change: (tensor: Tensor, key: string) => Tensor | undefined): void {
    for (const [key, tensor] of this.#beside) {
      const other = change(tensor, key);
      if (!other) continue;
      tensor.free();
      this.#beside.set(key, other);
    }
  }

  /** Puts the float32 weights back into the model, in the place of their rounded copies. */
  restore(): void {
    this.#model.exchange((parameter, key) => {
      const beside = this.#beside.get(key);
      if (!beside) return undefined;
      const weight = owned(() => wholeWeight(parameter, beside));
      if (weight !== beside) beside.free();
      parameter.free();
      return weight;
    });
    this.#beside.clear();
  }
}

/** What layers compute with, and what makes a float32 weight of it. */
const loweredWithMaster = (parameter: Tensor, compute: DType): [lowered: Tensor, beside: Tensor] =>
  compute === 'bfloat16' ? halvesOf(parameter) : [castOf(parameter, compute), castOf(parameter, 'float32')];

function halvesOf(parameter: Tensor): [upper: Tensor, lower: Tensor] {
  const { shape, device } = parameter;
  const half = (dtype: DType): Tensor => owned(() => empty(shape, { dtype, device }));
  const [upper, lower] = [half('bfloat16'), half('int16')];
  using _scope = new Scope();
  noGrad(() => splitHalves_(upper, lower, parameter.detach().cast('float32')));
  return [upper, lower];
}

const castOf = (parameter: Tensor, dtype: DType): Tensor => owned(() => parameter.detach().cast(dtype));

/** Whether what stands beside a parameter is the lower half of its weight, and not the weight itself. */
const isHalf = ({ dtype }: Tensor): boolean => dtype === 'int16';

/** The float32 weight of a parameter by what stands beside it. */
export const wholeWeight = (parameter: Tensor, beside: Tensor): Tensor =>
  isHalf(beside) ? joinHalves(parameter.detach(), beside) : beside;

/** Takes what `wholeWeight` gave, after it was changed in place, for the weight of a parameter. */
export function takeWhole(parameter: Tensor, beside: Tensor, weight: Tensor): void {
  if (isHalf(beside)) splitHalves_(parameter, beside, weight);
  else parameter.copy_(weight);
}

/** What a state holds of a parameter's weight, by its name. */
export function* weightTensors(name: string, parameter: Tensor, beside: Tensor | undefined): Iterable<[string, Tensor]> {
  yield [`weights.${name}`, beside && !isHalf(beside) ? beside : parameter];
  if (beside && isHalf(beside)) yield [`lower.${name}`, beside];
}

/** Lets a parameter follow what stands beside it when `weightTensors` were read. */
export function follow(parameter: Tensor, beside: Tensor): void {
  if (!isHalf(beside)) parameter.copy_(beside);
}

/** A tensor that no scope frees. */
function owned(body: () => Tensor): Tensor {
  using _scope = new Scope();
  return Scope.release(noGrad(body));
}
