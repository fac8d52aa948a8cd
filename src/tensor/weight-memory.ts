import { type DType, dtypeBytes, dtypeCode } from './dtype.ts';
import { native, type Pages } from './native.ts';
import { Tensor } from './tensor.ts';

/** Where a weight is read to: among others, or into memory of its own. Otherwise it stays in its file until it is used. */
export type ReadTo = WeightMemory | 'own';

/**
 * Memory of the CPU for weights, in huge pages where the system has them: decoding streams all weights for every token, and from ordinary
 * pages they come at half the speed. It is given back when the last tensor in it is.
 */
export class WeightMemory {
  readonly pages: Pages;

  /** Room for all tensors of these shapes and dtypes together. */
  constructor(tensors: Iterable<{ readonly shape: readonly number[]; readonly dtype: DType }>) {
    let bytes = 0;
    for (const { shape, dtype } of tensors) {
      const exact = shape.reduce((product, size) => product * size, dtypeBytes(dtype));
      bytes += Math.ceil(exact / 64) * 64;
    }
    this.pages = native.pages(bytes);
  }

  /** Takes no further tensors, so that the memory is given back with the last one that is in it, rather than when garbage is collected. */
  letGo(): void {
    native.letGo(this.pages);
  }

  /** A copy of `tensor` here, or the tensor itself when it is here already; `dtype` converts it on the way. */
  place(tensor: Tensor, dtype: DType = tensor.dtype): Tensor {
    return new Tensor(native.place(this.pages, tensor.handle, dtypeCode(dtype)));
  }
}
