import type { Module } from '../nn/module.ts';
import { noGrad } from '../tensor/autograd.ts';
import { type DType, isFloating } from '../tensor/dtype.ts';
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

/**
 * The float32 weights behind a model that computes in a narrower dtype, for those of its parameters that learn, by key. What is frozen is
 * rounded once and takes half the memory. Micikevicius et al. 2018, arXiv:1710.03740.
 */
export class Masters {
  readonly #model: Module;
  readonly #weights = new Map<string, Tensor>();

  /** Casts the model; those parameters have masters that learn, unless `keeps` says otherwise. */
  constructor(model: Module, precision: Precision, keeps = ({ requiresGrad }: Tensor): boolean => requiresGrad) {
    this.#model = model;
    const { compute, weights } = precisions[precision];
    const cast = (parameter: Tensor, dtype: DType): Tensor => {
      using scope = new Scope();
      return Scope.release(scope.keep(noGrad(() => parameter.detach().cast(dtype))));
    };
    model.exchange((parameter, key) => {
      const { dtype, requiresGrad } = parameter;
      if (!isFloating(dtype)) return undefined;
      if (weights !== compute && keeps(parameter)) {
        const lowered = cast(parameter, compute).requiresGrad_(requiresGrad);
        this.#weights.set(key, dtype === weights ? parameter.requiresGrad_(false) : cast(parameter, weights));
        if (dtype !== weights) parameter.free();
        return lowered;
      }
      if (dtype === compute) return undefined;
      const lowered = cast(parameter, compute).requiresGrad_(requiresGrad);
      parameter.free();
      return lowered;
    });
  }

  get weights(): ReadonlyMap<string, Tensor> {
    return this.#weights;
  }

  /** Casts a model whose learned weights are float32 for use, and keeps them. */
  static behind(model: Module, precision: Precision): Masters {
    return new Masters(model, precision, ({ dtype }) => dtype === 'float32');
  }

  /** Puts what `change` gives for a float32 weight in its place, and frees the old one. */
  exchange(change: (weight: Tensor, key: string) => Tensor | undefined): void {
    for (const [key, weight] of this.#weights) {
      const other = change(weight, key);
      if (!other) continue;
      weight.free();
      this.#weights.set(key, other);
    }
  }

  /** Puts the float32 weights back into the model, in the place of their rounded copies. */
  restore(): void {
    this.#model.exchange((parameter, key) => {
      const master = this.#weights.get(key);
      if (master) parameter.free();
      return master;
    });
    this.#weights.clear();
  }
}
