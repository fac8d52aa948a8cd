import { stack } from '../tensor/create.ts';
import { foreachNorm } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** The 2-norm over all gradients together, in float32; 0 when there are none. */
export function gradientNorm(gradients: readonly Tensor[]): number {
  using _scope = new Scope();
  return gradients.length === 0
    ? 0
    : stack(foreachNorm(gradients, { dtype: 'float32' }))
        .norm()
        .item();
}

/** What gradients of this norm are to be multiplied by so that it is at most `maxNorm`. */
export const clipFactor = (norm: number, maxNorm: number): number => Math.min(1, maxNorm / (norm + 1e-6));
