import { noGrad } from '../tensor/autograd.ts';
import type { DType } from '../tensor/dtype.ts';
import { dequantizeWeight, pad, type QuantizedWeight, quantizedLinear, quantizeNf4 } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Linear } from './linear.ts';
import { Module } from './module.ts';

/** How many bits a weight of a frozen layer takes. */
export type QuantizedBits = 4 | 8;

/** Scales of NF4 that share a factor. */
const groupSize = 256;

/**
 * A frozen linear layer whose weight lies in four bits (NF4 with double quantisation) or eight (int8 with a scale for each row) and is
 * decoded whenever it is used. Dettmers et al. 2023, arXiv:2305.14314.
 */
export class QuantizedLinear extends Module implements Linear {
  readonly bias: Tensor | undefined;
  // No parameters: nothing that casts, saves or moves those may touch them.
  readonly #quantized: QuantizedWeight;
  readonly #dtype: DType;
  readonly #inputs: number;

  /** Encodes the weight of `layer`, which is left as it is, rounded to `dtype`; the bias is shared with it. */
  constructor(layer: Linear, bits: QuantizedBits, { dtype = layer.weight.dtype }: { dtype?: DType | undefined } = {}) {
    super();
    using _scope = new Scope();
    const weight = noGrad(() => layer.weight.cast(dtype));
    const { codes, scales } = noGrad(() => (bits === 4 ? encodeNf4(weight) : encodeInt8(weight)));
    this.#quantized = { codes: kept(codes), scales: scales.map(kept) };
    this.bias = layer.bias;
    this.#dtype = dtype;
    [, this.#inputs] = layer.weightShape;
  }

  get weightShape(): readonly [outputs: number, inputs: number] {
    return [this.#quantized.codes.size(0), this.#inputs];
  }

  /** What the weight takes. */
  get bytes(): number {
    const { codes, scales } = this.#quantized;
    return [codes, ...scales].reduce((sum, part) => sum + part.bytes, 0);
  }

  /** The decoded weight, in the dtype that it was encoded from. */
  get weight(): Tensor {
    using scope = new Scope();
    return scope.keep(dequantizeWeight(this.#quantized, this.#inputs).cast(this.#dtype));
  }

  /** Gives back the memory of the weight; the bias stays. */
  free(): void {
    for (const part of [this.#quantized.codes, ...this.#quantized.scales]) part.free();
  }

  /** `x` [..., inputs] to [..., outputs]. */
  forward(x: Tensor): Tensor {
    return quantizedLinear(x, this.#quantized, this.bias);
  }
}

const kept = (tensor: Tensor): Tensor => Scope.release(tensor.contiguous());

/** One scale for each row, of which 127 is the largest magnitude. */
function encodeInt8(weight: Tensor): QuantizedWeight {
  const x = weight.cast('float32');
  const scales = x.abs().amax(1).clamp({ min: 1e-30 }).div(127); // [O]
  return { codes: x.div(scales.unsqueeze(1)).round().cast('int8'), scales: [scales] };
}

/** The magnitudes of the blocks are themselves encoded: their mean is taken off, and 256 of the rest share a factor. */
function encodeNf4(weight: Tensor): QuantizedWeight {
  const { codes, magnitudes } = quantizeNf4(weight);
  const mean = magnitudes.mean();
  const count = magnitudes.numel;
  const groups = Math.ceil(count / groupSize);
  const spread = pad(magnitudes.sub(mean).reshape(-1), [0, groups * groupSize - count]).view(groups, groupSize);
  const factors = spread.abs().amax(1).clamp({ min: 1e-30 }).div(127); // [groups]
  const scales = spread
    .div(factors.unsqueeze(1))
    .round()
    .cast('int8')
    .reshape(-1)
    .narrow(0, 0, count)
    .view(...magnitudes.shape);
  return { codes, scales: [scales, factors, mean] };
}
