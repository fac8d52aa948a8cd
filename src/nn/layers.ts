import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/**
 * Runs `x` through `layers` one after another and frees what each made except its result, so that inference holds one layer's
 * tensors at a time and training what autograd keeps. `x` itself is left alone.
 */
export function runLayers<Layer>(layers: readonly Layer[], x: Tensor, step: (layer: Layer, x: Tensor, index: number) => Tensor): Tensor {
  let hidden = x;
  for (const [index, layer] of layers.entries()) {
    using scope = new Scope();
    const next = scope.keep(step(layer, hidden, index));
    if (hidden !== x) hidden.free();
    hidden = next;
  }
  return hidden;
}
