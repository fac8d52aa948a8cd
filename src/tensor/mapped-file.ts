import { existsSync } from 'node:fs';
import { CheckpointError } from '../errors.ts';
import { type DType, dtypeCode } from './dtype.ts';
import { type Mapping, native } from './native.ts';
import { Tensor } from './tensor.ts';
import type { ReadTo } from './weight-memory.ts';

/** A memory-mapped file: nothing of it is read until it is used. */
export class MappedFile {
  /** Its size in bytes. */
  readonly bytes: number;
  readonly #mapping: Mapping;

  /** Throws CheckpointError for a file that is not there, NativeError for one that cannot be mapped. */
  constructor(path: string) {
    if (!existsSync(path)) throw new CheckpointError(`${path}: no such file`);
    [this.#mapping, this.bytes] = native.mapFile(path);
  }

  /** A copy of `length` bytes from `offset` on. Throws NativeError beyond the end. */
  read(offset: number, length: number): Buffer {
    const data = Buffer.alloc(length);
    native.mappedBytes(this.#mapping, offset, data);
    return data;
  }

  /** A tensor over the file, or read to `memory` now; writing to it never reaches the file. Throws NativeError beyond the end. */
  tensor(offset: number, shape: readonly number[], dtype: DType, memory?: ReadTo): Tensor {
    if (memory === 'own') return new Tensor(native.read(this.#mapping, offset, shape, dtypeCode(dtype)));
    if (memory) return new Tensor(native.read(this.#mapping, offset, shape, dtypeCode(dtype), memory.pages));
    return new Tensor(native.mapped(this.#mapping, offset, shape, dtypeCode(dtype)));
  }
}
