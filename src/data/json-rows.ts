import { closeSync, fstatSync, openSync, read as readCallback, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { DataError } from '../errors.ts';

const read = promisify(readCallback);
const chunkBytes = 1 << 20;
const [quote, backslash, comma, newline] = [0x22, 0x5c, 0x2c, 0x0a];

/**
 * The rows of a JSON array of objects, or of a JSONL file, read from disk one at a time: opening scans the file once for where rows begin and end
 * (no row is parsed), so that files larger than the memory work.
 */
export class JsonRows implements Disposable {
  readonly file: string;
  readonly length: number;
  #fd: number | undefined;
  /** Begin and end of row i in bytes at 2 i and 2 i + 1. */
  readonly #spans: readonly number[];

  private constructor(file: string, fd: number, spans: readonly number[]) {
    this.file = file;
    this.length = spans.length / 2;
    this.#fd = fd;
    this.#spans = spans;
  }

  /** Throws DataError when the file is missing, or is neither a whole array of objects nor lines of objects. */
  static async open(file: string): Promise<JsonRows> {
    let fd: number;
    try {
      fd = openSync(file, 'r');
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      throw new DataError(missing ? `${file} does not exist` : `${file} cannot be opened: ${(cause as Error).message}`, {
        hint: 'give the path of a JSON or JSONL file of conversations',
        cause,
      });
    }
    try {
      const scan = new Scan(file);
      const buffer = Buffer.allocUnsafe(chunkBytes);
      for (let at = 0; ; ) {
        const { bytesRead } = await read(fd, buffer, 0, chunkBytes, at);
        if (bytesRead === 0) break;
        scan.read(buffer, bytesRead, at);
        at += bytesRead;
      }
      return new JsonRows(file, fd, scan.end(fstatSync(fd).size));
    } catch (error) {
      closeSync(fd);
      if (error instanceof DataError) throw error;
      throw new DataError(`${file} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Row `index` as parsed JSON. Throws DataError naming the row. */
  row(index: number): unknown {
    const [start, end] = [this.#spans[2 * index], this.#spans[2 * index + 1]];
    if (start === undefined || end === undefined) throw new DataError(`${this.file} has ${this.length} rows, there is no row ${index}`);
    if (this.#fd === undefined) throw new DataError(`${this.file} was closed`);
    const bytes = Buffer.allocUnsafe(end - start);
    readSync(this.#fd, bytes, 0, bytes.length, start);
    try {
      return JSON.parse(bytes.toString('utf8'));
    } catch (cause) {
      throw new DataError(`${this.file}#${index} is not valid JSON: ${(cause as Error).message}`, {
        hint: 'write the file again with a JSON library',
        cause,
      });
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Finds the top-level objects of a file that comes in chunks. */
class Scan {
  readonly #file: string;
  readonly #spans: number[] = [];
  #layout: 'array' | 'lines' | undefined;
  #depth = 0;
  #inString = false;
  #escaped = false;
  #afterRow = false;
  #closed = false;

  constructor(file: string) {
    this.#file = file;
  }

  read(bytes: Uint8Array, length: number, offset: number): void {
    for (let i = 0; i < length; i++) {
      const byte = bytes[i] ?? 0;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === backslash) this.#escaped = true;
        else if (byte === quote) this.#inString = false;
      } else if (this.#depth > 0) {
        if (byte === quote) this.#inString = true;
        else if (byte === 0x7b || byte === 0x5b) this.#depth++;
        else if ((byte === 0x7d || byte === 0x5d) && --this.#depth === 0) {
          this.#spans.push(offset + i + 1);
          this.#afterRow = true;
        }
      } else this.#between(byte, offset + i);
    }
  }

  /** The begins and ends of all rows. */
  end(size: number): readonly number[] {
    if (size === 0) throw this.#error(size, 'the file is empty');
    if (this.#depth > 0 || this.#inString || (this.#layout === 'array' && !this.#closed)) {
      throw new DataError(`${this.#file} ends in the middle of row ${Math.floor(this.#spans.length / 2)}`, {
        hint: 'the file is cut off: fetch or write it again',
      });
    }
    return this.#spans;
  }

  /** A byte outside all rows. */
  #between(byte: number, at: number): void {
    const isSpace = byte === 0x20 || byte === newline || byte === 0x0d || byte === 0x09;
    if (isSpace) {
      if (byte === newline && this.#layout === 'lines') this.#afterRow = false;
    } else if (at < 3 && (byte === 0xef || byte === 0xbb || byte === 0xbf)) {
      // a byte order mark
    } else if (this.#closed) {
      throw this.#error(at, 'something follows the array');
    } else if (this.#layout === undefined && byte === 0x5b) {
      this.#layout = 'array';
    } else if (byte === 0x7b && !this.#afterRow) {
      this.#layout ??= 'lines';
      this.#spans.push(at);
      this.#depth = 1;
    } else if (this.#layout === 'array' && byte === comma && this.#afterRow) {
      this.#afterRow = false;
    } else if (this.#layout === 'array' && byte === 0x5d) {
      this.#closed = true;
    } else {
      const wanted = this.#afterRow
        ? `a ${this.#layout === 'array' ? 'comma' : 'line break'} should follow row ${this.#spans.length / 2 - 1}`
        : `row ${this.#spans.length / 2} should begin with "{"`;
      throw this.#error(at, `${wanted}, found ${JSON.stringify(String.fromCharCode(byte))}`);
    }
  }

  #error(at: number, what: string): DataError {
    return new DataError(`${this.#file}, byte ${at}: ${what}`, {
      hint: 'conversations are a JSON array of objects, or one object a line (JSONL)',
    });
  }
}
