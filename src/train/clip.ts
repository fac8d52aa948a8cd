import { stack } from '../tensor/create.ts';
import { foreachNorm, squareSum } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** The 2-norm over all gradients together, in float32; 0 when there are none. */
export function gradientNorm(gradients: readonly Tensor[]): number {
  using _scope = new Scope();
  // Norms of float32 are taken as PyTorch takes them.
  const [plain, narrow] = [gradients.filter(({ dtype }) => dtype === 'float32'), gradients.filter(({ dtype }) => dtype !== 'float32')];
  const norm =
    plain.length === 0
      ? 0
      : stack(foreachNorm(plain, { dtype: 'float32' }))
          .norm()
          .item();
  return narrow.length === 0 ? norm : Math.sqrt(norm ** 2 + squareSum(narrow));
}

/** What gradients of this norm are to be multiplied by so that it is at most `maxNorm`. */
export const clipFactor = (norm: number, maxNorm: number): number => Math.min(1, maxNorm / (norm + 1e-6));
