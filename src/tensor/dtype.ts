import { NativeError } from '../errors.ts';
import type { TypedArray } from './native.ts';

/** libtorch's number for each dtype (c10::ScalarType). */
const codes = {
  uint8: 0,
  int8: 1,
  int16: 2,
  int32: 3,
  int64: 4,
  float16: 5,
  float32: 6,
  float64: 7,
  bool: 11,
  bfloat16: 15,
} as const;

/** The element type of a tensor, by PyTorch's names. */
export type DType = keyof typeof codes;

const names = new Map<number, DType>(Object.entries(codes).map(([name, code]) => [code, name as DType]));

const widths: Record<DType, number> = {
  uint8: 1,
  int8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  float16: 2,
  float32: 4,
  float64: 8,
  bool: 1,
  bfloat16: 2,
};

/** libtorch's number for a dtype. */
export const dtypeCode = (dtype: DType): number => codes[dtype];

/** The dtype behind libtorch's number. Throws NativeError for one that has no name here. */
export function dtypeName(code: number): DType {
  const name = names.get(code);
  if (name === undefined) throw new NativeError(`libtorch's dtype ${code} has no name here`);
  return name;
}

/** Bytes an element takes. */
export const dtypeBytes = (dtype: DType): number => widths[dtype];

/** True for the dtypes that can carry gradients. */
export const isFloating = (dtype: DType): boolean => dtype.startsWith('float') || dtype === 'bfloat16';

/** The dtype whose values a typed array holds. */
export function dtypeOf(data: TypedArray): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Int16Array) return 'int16';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8';
  throw new NativeError(`no dtype for ${Object.prototype.toString.call(data).slice(8, -1)}`, {
    hint: 'use Float32Array, BigInt64Array, Int32Array, …',
  });
}

/** An empty typed array for `count` values of a dtype; float16 and bfloat16 have none of their own. */
export function arrayFor(
  dtype: Exclude<DType, 'float16' | 'bfloat16'>,
  count: number,
): Exclude<TypedArray, Uint16Array | Uint8ClampedArray> {
  switch (dtype) {
    case 'float32':
      return new Float32Array(count);
    case 'float64':
      return new Float64Array(count);
    case 'int64':
      return new BigInt64Array(count);
    case 'int32':
      return new Int32Array(count);
    case 'int16':
      return new Int16Array(count);
    case 'int8':
      return new Int8Array(count);
    case 'uint8':
    case 'bool':
      return new Uint8Array(count);
  }
}
