import { stack } from '../tensor/create.ts';
import { foreachMul_, foreachNorm } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** The 2-norm over all gradients together, in float32; 0 when there are none. */
function gradientNorm(gradients: readonly Tensor[]): number {
  using _scope = new Scope();
  return gradients.length === 0
    ? 0
    : stack(foreachNorm(gradients, { dtype: 'float32' }))
        .norm()
        .item();
}

/** Scales gradients in place so that their common norm is at most `maxNorm`; gives the norm that they had. */
export function clipGradients(gradients: readonly Tensor[], maxNorm: number): number {
  const norm = gradientNorm(gradients);
  const factor = maxNorm / (norm + 1e-6);
  if (factor < 1) foreachMul_(gradients, factor);
  return norm;
}
