import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { CheckpointError } from '../errors.ts';
import { type DType, dtypeBytes } from './dtype.ts';
import { native } from './native.ts';
import { quantizers } from './quantize.ts';
import { Scope } from './scope.ts';
import type { Tensor } from './tensor.ts';

/** A field of a GGUF file's metadata; a list is one of values of that type. */
export type GgufField =
  | { readonly type: 'uint32' | 'int32' | 'float32'; readonly value: number | readonly number[] }
  | { readonly type: 'bool'; readonly value: boolean | readonly boolean[] }
  | { readonly type: 'string'; readonly value: string | readonly string[] };

/** GGUF's numbers of the types of metadata. */
const fieldCodes = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, list: 9 } as const;

const floats: Readonly<Record<'F32' | 'F16' | 'BF16', DType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };
const typeCodes = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, BF16: 30 } as const;

/** How a tensor can be stored, by GGUF's names. */
export type GgufType = keyof typeof typeCodes;

/** Every type that is written. */
export const ggufTypes = Object.keys(typeCodes) as [GgufType, ...GgufType[]];

/** A tensor to write: `tensor` is called when its turn comes, and what it makes is freed behind it. */
export interface GgufTensor {
  readonly name: string;
  /** From the outermost dimension to the innermost. */
  readonly shape: readonly number[];
  readonly type: GgufType;
  tensor(): Tensor;
}

const ALIGNMENT = 32;
const isFloat = (type: GgufType): type is keyof typeof floats => type in floats;

/** Values of a row that a type packs together. */
export const ggufBlock = (type: GgufType): number => (isFloat(type) ? 1 : quantizers[type].values);

function bytesOf({ shape, type }: GgufTensor): number {
  const values = shape.reduce((product, size) => product * size, 1);
  return isFloat(type) ? values * dtypeBytes(floats[type]) : (values / quantizers[type].values) * quantizers[type].bytes;
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Bytes that a file of these tensors takes, its metadata apart. */
export const ggufBytes = (tensors: readonly GgufTensor[]): number => tensors.reduce((sum, tensor) => sum + aligned(bytesOf(tensor)), 0);

/** Bytes in the making. */
class Bytes {
  readonly #parts: Buffer[] = [];

  uint32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    this.#parts.push(part);
    return this;
  }
  uint64(value: number): this {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    this.#parts.push(part);
    return this;
  }
  string(text: string): this {
    const part = Buffer.from(text, 'utf8');
    this.uint64(part.length).#parts.push(part);
    return this;
  }
  field({ type, value }: GgufField): this {
    if (!Array.isArray(value)) return this.uint32(fieldCodes[type]).#values(type, [value as number]);
    return this.uint32(fieldCodes.list).uint32(fieldCodes[type]).uint64(value.length).#values(type, value);
  }
  #values(type: GgufField['type'], values: readonly (number | boolean | string)[]): this {
    if (type === 'string') for (const value of values) this.string(String(value));
    else if (type === 'bool') this.#parts.push(Buffer.from(values.map(Number)));
    else {
      const array = type === 'float32' ? Float32Array : type === 'int32' ? Int32Array : Uint32Array;
      this.#parts.push(Buffer.from(array.from(values as readonly number[]).buffer));
    }
    return this;
  }
  get all(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Values that are turned into blocks at once: what lies between the steps then stays in the processor's cache. */
const VALUES_AT_ONCE = 1 << 18;

function writeData(file: number, { type, tensor }: GgufTensor): void {
  using _scope = new Scope();
  const whole = tensor();
  if (isFloat(type)) {
    native.writeTensor(file, whole.cast(floats[type]).handle);
    return;
  }
  const { values, encode } = quantizers[type];
  const blocks = whole.reshape(-1, values);
  const step = VALUES_AT_ONCE / values;
  for (let from = 0; from < blocks.size(0); from += step) {
    using _part = new Scope();
    native.writeTensor(file, encode(blocks.narrow(0, from, Math.min(step, blocks.size(0) - from)).cast('float32')).handle);
  }
}

/**
 * Writes a GGUF file, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): each step of the iteration writes one tensor,
 * and nothing is left of a file whose iteration ends early. Rows of quantised tensors must be multiples of `ggufBlock`. Throws CheckpointError.
 */
export function* writeGguf(path: string, metadata: Readonly<Record<string, GgufField>>, tensors: readonly GgufTensor[]): Generator<void> {
  const header = new Bytes().uint32(0x46554747).uint32(3).uint64(tensors.length).uint64(Object.keys(metadata).length);
  for (const [name, field] of Object.entries(metadata)) header.string(name).field(field);
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape, type } = tensor;
    if ((shape.at(-1) ?? 1) % ggufBlock(type) !== 0) {
      throw new CheckpointError(
        `${path}: tensor "${name}" has rows of ${shape.at(-1)} values, which blocks of ${ggufBlock(type)} do not fill`,
      );
    }
    header.string(name).uint32(shape.length);
    for (const size of [...shape].reverse()) header.uint64(size);
    header.uint32(typeCodes[type]).uint64(offset);
    offset += aligned(bytesOf(tensor));
  }
  const head = header.all;
  let whole = false;
  try {
    const file = openSync(path, 'w');
    try {
      writeSync(file, Buffer.concat([head, Buffer.alloc(aligned(head.length) - head.length)]));
      for (const tensor of tensors) {
        writeData(file, tensor);
        writeSync(file, Buffer.alloc(aligned(bytesOf(tensor)) - bytesOf(tensor)));
        yield;
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    whole = true;
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${path}: cannot be written: ${(cause as Error).message}`, { cause });
  } finally {
    if (!whole) rmSync(path, { force: true });
  }
}
