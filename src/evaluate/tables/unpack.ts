import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../../cache-folder.ts';
import { DataError } from '../../errors.ts';
import { makeFolder } from '../../make-folder.ts';

/** The beginnings of image files by the ending that they get. */
const kinds: readonly (readonly [string, readonly number[]])[] = [
  ['png', [0x89, 0x50, 0x4e, 0x47]],
  ['jpg', [0xff, 0xd8, 0xff]],
  ['gif', [0x47, 0x49, 0x46]],
  ['webp', [0x52, 0x49, 0x46, 0x46]],
  ['bmp', [0x42, 0x4d]],
  ['tif', [0x49, 0x49, 0x2a]],
];

const ending = (bytes: Uint8Array): string => kinds.find(([, start]) => start.every((byte, i) => bytes[i] === byte))?.[0] ?? 'img';

/**
 * Images out of a table, each as a file of its own in the cache folder, so that they are decoded when they are asked about and the memory does not grow with
 * the table. Equal images are one file, so that the questions about one share what is computed of it, as in tables that hold it in a row for each question.
 * Files are named by their content: what an earlier run unpacked is used again.
 */
export class Unpacker {
  readonly #folder: string;
  readonly #write: boolean;
  #drafts = 0;

  private constructor(folder: string, write: boolean) {
    this.#folder = folder;
    this.#write = write;
  }

  /** For the images of this table. Without `write` they are named and no more. Throws DataError where the cache folder cannot be written. */
  static async of(table: string, { write }: { readonly write: boolean }): Promise<Unpacker> {
    const folder = join(cacheFolder(process.env), 'benchmark-images');
    if (!write) return new Unpacker(folder, false);
    try {
      makeFolder(folder);
    } catch (cause) {
      throw new DataError(`${folder}: the images of ${table} cannot be unpacked: ${(cause as Error).message}`, {
        hint: 'name a folder that can be written with TINYLLAVA_CACHE',
        cause,
      });
    }
    return new Unpacker(folder, true);
  }

  /** The file that holds these bytes, or would. */
  async file(bytes: Uint8Array): Promise<string> {
    const name = createHash('sha256').update(bytes).digest('hex').slice(0, 32);
    const folder = join(this.#folder, name.slice(0, 2));
    const path = join(folder, `${name}.${ending(bytes)}`);
    if (!this.#write || existsSync(path)) return path;
    this.#drafts += 1;
    const draft = `${path}.${process.pid}-${this.#drafts}.part`;
    try {
      await mkdir(folder, { recursive: true });
      await writeFile(draft, bytes);
      await rename(draft, path);
    } catch (cause) {
      await rm(draft, { force: true });
      throw new DataError(`${path}: cannot be written: ${(cause as Error).message}`, {
        hint: 'free some room, or name another folder with TINYLLAVA_CACHE',
        cause,
      });
    }
    return path;
  }
}
