import { ShapeError } from '../errors.ts';
import type { Device } from './device.ts';
import { arrayFor, type DType, dtypeCode, dtypeOf } from './dtype.ts';
import { native, type Scalar, type TypedArray } from './native.ts';
import * as ops from './ops.generated.ts';
import type { Generator } from './random.ts';
import { Scope } from './scope.ts';
import { type Nested, Tensor } from './tensor.ts';

/** What a new tensor is made of: float32 on the CPU unless said otherwise. */
export interface TensorOptions {
  readonly dtype?: DType;
  readonly device?: Device;
}

type Shape = readonly number[];

function nestedShape(data: Nested): number[] {
  const shape: number[] = [];
  for (let level = data; typeof level !== 'number'; level = level[0] ?? 0) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  return shape;
}

function flatten(data: Nested, shape: Shape, into: number[]): number[] {
  const [size, ...inner] = shape;
  if ((size === undefined) !== (typeof data === 'number'))
    throw new ShapeError('nested arrays of different depths or lengths do not make a tensor');
  if (typeof data === 'number') into.push(data);
  else {
    if (data.length !== size) throw new ShapeError(`nested arrays of different lengths do not make a tensor: ${size} and ${data.length}`);
    for (const part of data) flatten(part, inner, into);
  }
  return into;
}

const isTypedArray = (data: Nested | TypedArray): data is TypedArray => ArrayBuffer.isView(data);

/**
 * A tensor with a copy of the data. A typed array keeps its own dtype and is flat unless `shape` is given; nested arrays of numbers
 * become float32. Throws ShapeError where the lengths do not fit.
 */
export function tensor(data: Nested | TypedArray, { shape, dtype, device }: TensorOptions & { shape?: Shape } = {}): Tensor {
  using scope = new Scope();
  const size = shape ?? (isTypedArray(data) ? [data.length] : nestedShape(data));
  let array: TypedArray;
  if (isTypedArray(data)) array = data;
  else {
    const values = flatten(data, nestedShape(data), []);
    const whole = dtype === undefined || dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
    const into = arrayFor(whole, values.length);
    if (into instanceof BigInt64Array) for (const [i, value] of values.entries()) into[i] = BigInt(value);
    else into.set(values);
    array = into;
  }
  const count = size.reduce((product, n) => product * n, 1);
  if (count !== array.length) throw new ShapeError(`${array.length} values do not fill a tensor of shape [${size.join(', ')}]`);
  const stored = isTypedArray(data) ? dtypeOf(array) : dtype === 'bool' ? 'bool' : dtypeOf(array);
  const made = new Tensor(native.fromData(array, size, dtypeCode(stored)));
  return scope.keep(dtype === undefined && device === undefined ? made : made.to({ ...(dtype && { dtype }), ...(device && { device }) }));
}

/** Row numbers for indexing: an int64 tensor. */
export function indices(values: Iterable<number>): Tensor {
  return tensor(BigInt64Array.from(values, BigInt));
}

/** Memory as it comes; fill it before reading. */
export function empty(shape: Shape, { dtype = 'float32', device = 'cpu' }: TensorOptions = {}): Tensor {
  return new Tensor(ops.emptyMemoryFormat(shape, dtypeCode(dtype), null, device));
}

/** One value everywhere. */
export function full(shape: Shape, value: Scalar, { dtype = 'float32', device = 'cpu' }: TensorOptions = {}): Tensor {
  return new Tensor(ops.full(shape, value, dtypeCode(dtype), null, device));
}

/** Zeros. */
export const zeros = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 0, options);

/** Ones. */
export const ones = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 1, options);

/** The numbers from `start` until before `end`, int64 unless said otherwise; `arange(n)` counts from 0. */
export function arange(
  start: number,
  end?: number,
  { step = 1, dtype = 'int64', device = 'cpu' }: TensorOptions & { step?: number } = {},
): Tensor {
  const [from, until] = end === undefined ? [0, start] : [start, end];
  return new Tensor(ops.arangeStartStep(from, until, step, dtypeCode(dtype), null, device));
}

/** Uniform values from 0 until before 1. */
export function rand(shape: Shape, { generator, ...options }: TensorOptions & { generator?: Generator } = {}): Tensor {
  return empty(shape, options).uniform_(generator ? { generator } : {});
}

/** Values of the standard normal distribution. */
export function randn(shape: Shape, { generator, ...options }: TensorOptions & { generator?: Generator } = {}): Tensor {
  return empty(shape, options).normal_(generator ? { generator } : {});
}

/** Whole numbers from `low` until before `high`, int64. */
export function randint(low: number, high: number, shape: Shape, { generator }: { generator?: Generator } = {}): Tensor {
  using scope = new Scope();
  return scope.keep(new Tensor(ops.randintGenerator(high - low, shape, generator?.handle ?? null, dtypeCode('int64'))).add_(low));
}

/** The numbers from 0 until before `count` in random order, int64. */
export function randperm(count: number, { generator }: { generator?: Generator } = {}): Tensor {
  return new Tensor(ops.randpermGenerator(count, generator?.handle ?? null, dtypeCode('int64')));
}

const handles = (list: readonly Tensor[]) => list.map((t) => t.handle);

/** Joins tensors along a dimension that exists. */
export const cat = (list: readonly Tensor[], dim = 0): Tensor => new Tensor(ops.cat(handles(list), dim));

/** Joins tensors of one shape along a new dimension. */
export const stack = (list: readonly Tensor[], dim = 0): Tensor => new Tensor(ops.stack(handles(list), dim));

/** Values of `a` where the condition holds, else of `b`. */
export function where(condition: Tensor, a: Tensor | Scalar, b: Tensor | Scalar): Tensor {
  if (a instanceof Tensor) {
    return new Tensor(
      b instanceof Tensor ? ops.whereSelf(condition.handle, a.handle, b.handle) : ops.whereScalarOther(condition.handle, a.handle, b),
    );
  }
  return new Tensor(b instanceof Tensor ? ops.whereScalarSelf(condition.handle, a, b.handle) : ops.whereScalar(condition.handle, a, b));
}
