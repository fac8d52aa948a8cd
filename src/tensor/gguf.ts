import { CheckpointError } from '../errors.ts';
import { type BlockFormat, blockFormats, dequantize } from './dequantize.ts';
import { type DType, dtypeBytes } from './dtype.ts';
import { MappedFile } from './mapped-file.ts';
import type { WeightSource } from './safetensors.ts';

/** Whether a path names a GGUF file: a language model with its settings, its tokenizer and its chat template. */
export const isGguf = (path: string): boolean => path.endsWith('.gguf');

/** A value of a GGUF file's metadata; 64-bit integers come as numbers. */
export type GgufValue = string | number | boolean | readonly GgufValue[];

/** A memory-mapped GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3). */
export interface GgufFile extends WeightSource {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** GGUF's name of how a tensor is stored, such as Q4_1. */
  type(name: string): string;
}

/** Types that are read, by GGUF's number: a dtype that libtorch has, or a block format that becomes float32. */
const types = new Map<number, { readonly name: string; readonly dtype: DType; readonly format?: BlockFormat }>([
  [0, { name: 'F32', dtype: 'float32' }],
  [1, { name: 'F16', dtype: 'float16' }],
  [30, { name: 'BF16', dtype: 'bfloat16' }],
  [2, { name: 'Q4_0', dtype: 'float32', format: blockFormats.Q4_0 }],
  [3, { name: 'Q4_1', dtype: 'float32', format: blockFormats.Q4_1 }],
  [6, { name: 'Q5_0', dtype: 'float32', format: blockFormats.Q5_0 }],
  [7, { name: 'Q5_1', dtype: 'float32', format: blockFormats.Q5_1 }],
  [8, { name: 'Q8_0', dtype: 'float32', format: blockFormats.Q8_0 }],
  [12, { name: 'Q4_K', dtype: 'float32', format: blockFormats.Q4_K }],
  [13, { name: 'Q5_K', dtype: 'float32', format: blockFormats.Q5_K }],
  [14, { name: 'Q6_K', dtype: 'float32', format: blockFormats.Q6_K }],
]);

/** Names of types that are not read, for messages. */
const unreadTypes: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

type Fail = (what: string, hint?: string) => never;

const WINDOW = 1 << 20;

/** Reads values one after another. */
class Cursor {
  position = 0;
  readonly #file: MappedFile;
  readonly #fail: Fail;
  #window: Buffer = Buffer.alloc(0);
  #from = 0;

  constructor(file: MappedFile, fail: Fail) {
    this.#file = file;
    this.#fail = fail;
  }

  /** Throws CheckpointError where the file ends before `bytes` more. */
  expect(bytes: number): void {
    if (bytes <= this.#file.bytes - this.position) return;
    this.#fail(`cut short: the header needs ${bytes} bytes from byte ${this.position} on, the file ends at ${this.#file.bytes}`);
  }

  #take(length: number): Buffer {
    this.expect(length);
    if (this.position < this.#from || this.position + length > this.#from + this.#window.length) {
      this.#from = this.position;
      this.#window = this.#file.read(this.position, Math.min(Math.max(length, WINDOW), this.#file.bytes - this.position));
    }
    const start = this.position - this.#from;
    this.position += length;
    return this.#window.subarray(start, start + length);
  }

  uint32(): number {
    return this.#take(4).readUInt32LE();
  }
  uint64(): number {
    return Number(this.#take(8).readBigUInt64LE());
  }
  string(): string {
    return this.#take(this.uint64()).toString('utf8');
  }

  value(type: number, depth = 0): GgufValue {
    switch (type) {
      case 0:
        return this.#take(1).readUInt8();
      case 1:
        return this.#take(1).readInt8();
      case 2:
        return this.#take(2).readUInt16LE();
      case 3:
        return this.#take(2).readInt16LE();
      case 4:
        return this.uint32();
      case 5:
        return this.#take(4).readInt32LE();
      case 6:
        return this.#take(4).readFloatLE();
      case 7:
        return this.#take(1).readUInt8() !== 0;
      case 8:
        return this.string();
      case 9:
        return this.#array(depth);
      case 10:
        return this.uint64();
      case 11:
        return Number(this.#take(8).readBigInt64LE());
      case 12:
        return this.#take(8).readDoubleLE();
      default:
        return this.#fail(`metadata of type ${type}, which GGUF does not have, at byte ${this.position}`);
    }
  }

  #array(depth: number): GgufValue[] {
    if (depth > 3) this.#fail('metadata of lists in lists in lists');
    const type = this.uint32();
    const length = this.uint64();
    this.expect(length); // each takes a byte or more: a length that was tampered with allocates nothing
    const values: GgufValue[] = [];
    for (let i = 0; i < length; i++) values.push(this.value(type, depth + 1));
    return values;
  }
}

interface Stored {
  readonly shape: readonly number[];
  readonly type: { readonly name: string; readonly dtype: DType; readonly format?: BlockFormat };
  readonly offset: number;
}

function readTensor(cursor: Cursor, fail: Fail): [name: string, stored: Stored] {
  const name = cursor.string();
  const rank = cursor.uint32();
  if (rank > 4) fail(`tensor "${name}" has ${rank} dimensions, at most 4 are possible`);
  // GGUF counts dimensions from the innermost one
  const shape = Array.from({ length: rank }, () => cursor.uint64()).reverse();
  const code = cursor.uint32();
  const offset = cursor.uint64();
  const type = types.get(code);
  const known = [...types.values()].map((one) => one.name).join(', ');
  if (!type) return fail(`tensor "${name}" has the type ${unreadTypes[code] ?? code}, which is not read`, `types that are read: ${known}`);
  const block = type.format?.values ?? 1;
  if ((shape.at(-1) ?? 1) % block !== 0)
    fail(`tensor "${name}" has rows of ${shape.at(-1)} values, which blocks of ${block} (${type.name}) do not fill`);
  return [name, { shape, type, offset }];
}

function bytesOf({ shape, type: { dtype, format } }: Stored): number {
  const values = shape.reduce((product, size) => product * size, 1);
  return format ? (values / format.values) * format.bytes : values * dtypeBytes(dtype);
}

/** Opens a GGUF file; quantised tensors become float32. Throws CheckpointError for what is damaged, and for types that are not read. */
export function openGguf(path: string): GgufFile {
  const fail: Fail = (what, hint = 'the file is damaged or not a GGUF file; fetch it again') => {
    throw new CheckpointError(`${path}: ${what}`, { hint });
  };
  let file: MappedFile;
  try {
    file = new MappedFile(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    return fail(`cannot be read: ${(cause as Error).message}`);
  }
  const cursor = new Cursor(file, fail);
  if (file.bytes < 4 || file.read(0, 4).toString('latin1') !== 'GGUF') fail('not a GGUF file: it does not begin with "GGUF"');
  cursor.position = 4;
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) fail(`GGUF version ${version}`, 'versions 2 and 3 are read, little-endian');
  const [tensors, entries] = [cursor.uint64(), cursor.uint64()];
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < entries; i++) metadata.set(cursor.string(), cursor.value(cursor.uint32()));
  const stored = new Map<string, Stored>();
  for (let i = 0; i < tensors; i++) {
    const [name, described] = readTensor(cursor, fail);
    if (stored.has(name)) fail(`two tensors are called "${name}"`);
    stored.set(name, described);
  }
  const alignment = Number(metadata.get('general.alignment') ?? 32);
  if (!(alignment >= 8 && Number.isInteger(Math.log2(alignment)))) fail(`an alignment of ${alignment} bytes`);
  const start = Math.ceil(cursor.position / alignment) * alignment;
  for (const [name, one] of stored) {
    if (one.offset % alignment !== 0) fail(`tensor "${name}" begins at ${one.offset}, which is not aligned to ${alignment} bytes`);
    const end = start + one.offset + bytesOf(one);
    if (end > file.bytes) fail(`cut short: tensor "${name}" ends at byte ${end}, the file at ${file.bytes}`);
  }

  const find = (name: string): Stored => {
    const found = stored.get(name);
    if (!found) throw new CheckpointError(`${path}: no tensor "${name}"`);
    return found;
  };
  return {
    path,
    metadata,
    names: [...stored.keys()],
    shape: (name) => find(name).shape,
    dtype: (name) => find(name).type.dtype,
    type: (name) => find(name).type.name,
    tensor: (name, memory) => {
      const { shape, offset, type } = find(name);
      const at = start + offset;
      return type.format ? dequantize(file, at, shape, type.format) : file.tensor(at, shape, type.dtype, memory);
    },
  };
}
