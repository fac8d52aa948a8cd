import { noGrad } from '../tensor/autograd.ts';
import { cat } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** `weight` [R, …] with as many rows as wanted, the new ones the mean of all others; the tensor itself where it has them. */
export function withMeanRows(weight: Tensor, rows: number): Tensor {
  const missing = rows - weight.size(0);
  if (missing === 0) return weight;
  using scope = new Scope();
  const [, ...rest] = weight.shape;
  const mean = (): Tensor => weight.cast('float32').mean(0, { keepDim: true }).cast(weight.dtype);
  return scope.keep(noGrad(() => cat([weight, mean().expand(missing, ...rest)])));
}
