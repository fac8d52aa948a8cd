import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';
import { type DType, dtypeBytes } from './dtype.ts';
import { MappedFile } from './mapped-file.ts';
import { native } from './native.ts';
import { Scope } from './scope.ts';
import type { Tensor } from './tensor.ts';
import type { ReadTo } from './weight-memory.ts';

const dtypes: Readonly<Record<string, DType>> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I16: 'int16',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};
const codes = new Map(Object.entries(dtypes).map(([code, dtype]) => [dtype, code]));
const maxHeaderBytes = 100_000_000;

const Entry = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.int().nonnegative()),
  data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
});
const Header = z.looseObject({ __metadata__: z.record(z.string(), z.string()).optional() });

interface Stored {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly offset: number;
}

/** Named tensors that can be read one by one: a safetensors file, or a folder of them. */
export interface WeightSource {
  /** Where they come from, for messages. */
  readonly path: string;
  readonly names: readonly string[];
  shape(name: string): readonly number[];
  dtype(name: string): DType;
  /**
   * A tensor over the mapped file: nothing is read until it is used, and writing to it never reaches the file. With `memory` it is read now:
   * to there, or into memory of its own where it needs work.
   */
  tensor(name: string, memory?: ReadTo): Tensor;
}

/** A memory-mapped safetensors file (https://github.com/huggingface/safetensors, format 0.x). */
export interface SafetensorsFile extends WeightSource {
  readonly metadata: Readonly<Record<string, string>>;
}

/** Opens a safetensors file. Throws CheckpointError for a file whose header is cut short, not JSON, or contradicts the data. */
export function openSafetensors(path: string): SafetensorsFile {
  const fail = (what: string, cause?: unknown): never => {
    throw new CheckpointError(`${path}: ${what}`, { hint: 'the file is damaged or not a safetensors file; fetch or save it again', cause });
  };
  let file: MappedFile;
  try {
    file = new MappedFile(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    return fail('cannot be read', cause);
  }
  const { bytes } = file;
  if (bytes < 8) return fail(`${bytes} bytes are too few for a header`);
  const headerBytes = Number(file.read(0, 8).readBigUInt64LE());
  if (headerBytes > maxHeaderBytes) return fail(`claims a header of ${headerBytes} bytes`);
  if (headerBytes > bytes - 8) return fail(`cut short: the header needs ${headerBytes} bytes, the file has ${bytes - 8} after its length`);
  let header: z.output<typeof Header>;
  try {
    header = Header.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(file.read(8, headerBytes))));
  } catch (cause) {
    return fail('the header is not the JSON object that it should be', cause);
  }
  const { __metadata__: metadata = {}, ...described } = header;
  const start = 8 + headerBytes;
  const stored = new Map<string, Stored>();
  const spans: [begin: number, end: number, name: string][] = [];
  for (const [name, description] of Object.entries(described)) {
    const entry = Entry.safeParse(description);
    if (!entry.success) return fail(`tensor "${name}" is not described by dtype, shape and data_offsets`);
    const { shape, data_offsets: span } = entry.data;
    const dtype = dtypes[entry.data.dtype];
    if (dtype === undefined) return fail(`tensor "${name}" has the dtype ${entry.data.dtype}, which is not supported`);
    const needed = shape.reduce((product, size) => product * size, dtypeBytes(dtype));
    if (span[1] < span[0] || span[1] - span[0] !== needed)
      return fail(`tensor "${name}" needs ${needed} bytes, its offsets give ${span[1] - span[0]}`);
    if (span[1] > bytes - start) return fail(`cut short: tensor "${name}" ends at byte ${start + span[1]}, the file at ${bytes}`);
    spans.push([...span, name]);
    stored.set(name, { dtype, shape, offset: start + span[0] });
  }
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let end = 0;
  for (const [from, until, name] of spans) {
    if (from !== end) return fail(`tensor "${name}" begins at ${from}, where ${end} is expected: tensors overlap or leave a gap`);
    end = until;
  }
  if (end !== bytes - start) return fail(`${bytes - start - end} bytes at the end belong to no tensor`);

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
    dtype: (name) => find(name).dtype,
    tensor: (name, memory) => {
      const { dtype, shape, offset } = find(name);
      return file.tensor(offset, shape, dtype, memory);
    },
  };
}

/** A tensor to write: `tensor` is called when its turn comes, and what it makes is freed behind it. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  tensor(): Tensor;
}

/** Writes tensors to a safetensors file by way of a temporary one beside it, so that a half-written file never has the name. */
export function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, Tensor]>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const all = Array.from(tensors, ([name, tensor]) => ({ name, shape: tensor.shape, dtype: tensor.dtype, tensor: () => tensor }));
  Array.from(streamSafetensors(path, all, metadata));
}

/**
 * The same for tensors that are made one after another, so that never two of them need memory: each step of the iteration writes one, and
 * nothing is left of a file whose iteration ends early. Throws CheckpointError.
 */
export function* streamSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Generator<void> {
  // Wide dtypes first: every tensor then begins aligned to its own width and can be memory-mapped.
  const rows = [...tensors].sort((x, y) => dtypeBytes(y.dtype) - dtypeBytes(x.dtype) || (x.name < y.name ? -1 : 1));
  const header: Record<string, unknown> = { __metadata__: { format: 'pt', ...metadata } };
  let offset = 0;
  for (const { name, dtype, shape } of rows) {
    const end = offset + shape.reduce((product, size) => product * size, dtypeBytes(dtype));
    header[name] = { dtype: codes.get(dtype), shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  json.copy(head, 8);
  const draft = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  let whole = false;
  try {
    const file = openSync(draft, 'w');
    try {
      writeSync(file, head);
      for (const row of rows) {
        writeRow(file, row);
        yield;
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
    whole = true;
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${path}: cannot be written: ${(cause as Error).message}`, { cause });
  } finally {
    if (!whole) rmSync(draft, { force: true });
  }
}

function writeRow(file: number, { dtype, tensor }: TensorToWrite): void {
  using _scope = new Scope();
  native.writeTensor(file, tensor().cast(dtype).handle);
}
