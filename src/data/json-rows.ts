import { closeSync, fstatSync, openSync, read as readCallback, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { DataError } from '../errors.ts';
import type { RowSizes } from './rows.ts';
import { decodeText } from './text.ts';

const read = promisify(readCallback);
const chunkBytes = 1 << 20;
const [quote, backslash, comma, newline] = [0x22, 0x5c, 0x2c, 0x0a];
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];
const tags = ['<image>', '<video>'] as const;

/** What a file is that begins with another byte, and what to do about it. */
const otherKinds: Readonly<Record<number, string>> = {
  31: 'a file that gzip has packed has to be unpacked',
  60: 'this is a web page, not the data: fetch it again',
  118: 'if this is the pointer of Git LFS, fetch the data by `git lfs pull`',
  254: 'the file is in UTF-16: save it again as UTF-8',
  255: 'the file is in UTF-16: save it again as UTF-8',
};

/** How rows stand in a file. */
export type JsonLayout = 'array' | 'lines';

/**
 * The rows of a JSON array, or of a JSONL file, read from disk one at a time: opening scans the file once for where rows begin and end
 * (no row is parsed, nor asked whether it is an object), so that files larger than the memory work.
 */
export class JsonRows implements Disposable {
  readonly file: string;
  readonly length: number;
  readonly layout: JsonLayout;
  #fd: number | undefined;
  /** Begin and end of row i in bytes at 2 i and 2 i + 1. */
  readonly #spans: Float64Array;

  private constructor(file: string, fd: number, { layout, spans }: { layout: JsonLayout; spans: Float64Array }) {
    this.file = file;
    this.layout = layout;
    this.length = spans.length / 2;
    this.#fd = fd;
    this.#spans = spans;
  }

  /** Throws DataError when the file is missing, or is neither a whole array nor lines that begin with an object. */
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
      for await (const { bytes, at } of chunks(fd)) scan.read(bytes, at);
      const spans = scan.end(fstatSync(fd).size);
      return new JsonRows(file, fd, { layout: scan.layout ?? 'array', spans });
    } catch (error) {
      closeSync(fd);
      if (error instanceof DataError) throw error;
      throw new DataError(`${file} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Row `index` as parsed JSON. Throws DataError naming the row. */
  row(index: number): unknown {
    const text = decodeText(this.bytes(index), `${this.file}#${index}`);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new DataError(`${this.file}#${index} is not valid JSON: ${(cause as Error).message.replace(/\s+/g, ' ')}`, {
        hint: 'write the file again with a JSON library',
        cause,
      });
    }
  }

  /** Row `index` as it stands in the file. Throws DataError where there is none. */
  bytes(index: number): Buffer {
    const [start, end] = [this.#spans[2 * index], this.#spans[2 * index + 1]];
    if (start === undefined || end === undefined) throw new DataError(`${this.file} has ${this.length} rows, there is no row ${index}`);
    const bytes = Buffer.allocUnsafe(end - start);
    readSync(this.#open(), bytes, 0, bytes.length, start);
    return bytes;
  }

  /** The bytes of each row and the tags in it, found without parsing. */
  async sizes(): Promise<RowSizes> {
    const text = Uint32Array.from({ length: this.length }, (_, i) => (this.#spans[2 * i + 1] ?? 0) - (this.#spans[2 * i] ?? 0));
    const images = new Uint16Array(this.length);
    for (const tag of tags) {
      let row = 0;
      // A tag that a chunk cuts is found in the next one, which begins a little earlier.
      for await (const { bytes, at } of chunks(this.#open(), { overlap: tag.length - 1 })) {
        for (let found = bytes.indexOf(tag); found >= 0; found = bytes.indexOf(tag, found + tag.length)) {
          while (row + 1 < this.length && at + found >= (this.#spans[2 * row + 2] ?? 0)) row++;
          images[row] = (images[row] ?? 0) + 1;
        }
      }
    }
    return { text, images };
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): number {
    if (this.#fd === undefined) throw new DataError(`${this.file} was closed`);
    return this.#fd;
  }
}

/** A file in pieces, in order; each buffer is good until the next one is asked for. */
async function* chunks(fd: number, { overlap = 0 } = {}): AsyncGenerator<{ bytes: Buffer; at: number }, void, undefined> {
  const buffer = Buffer.allocUnsafe(chunkBytes);
  for (let at = 0; ; ) {
    const { bytesRead } = await read(fd, buffer, 0, chunkBytes, at);
    if (bytesRead === 0) return;
    yield { bytes: buffer.subarray(0, bytesRead), at };
    if (bytesRead <= overlap) return;
    at += bytesRead - overlap;
  }
}

/** Finds the top-level values of a file that comes in chunks. */
class Scan {
  readonly #file: string;
  #spans = new Float64Array(2048);
  #spanCount = 0;
  layout: JsonLayout | undefined;
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Whether a row goes on that is neither an object nor an array nor a text. */
  #inWord = false;
  #afterRow = false;
  #closed = false;

  constructor(file: string) {
    this.#file = file;
  }

  read(bytes: Uint8Array, offset: number): void {
    const length = bytes.length;
    for (let i = 0; i < length; i++) {
      if (this.#inString) {
        i = this.#skipString(bytes, i);
        if (this.#depth === 0 && !this.#inString) this.#endRow(offset + i + 1);
        continue;
      }
      const byte = bytes[i] ?? 0;
      if (this.#depth === 0) this.#between(byte, offset + i);
      else if (byte === quote) this.#inString = true;
      else if (byte === openBrace || byte === openBracket) this.#depth++;
      else if ((byte === closeBrace || byte === closeBracket) && --this.#depth === 0) {
        this.#endRow(offset + i + 1);
      }
    }
  }

  /** The begins and ends of all rows. */
  end(size: number): Float64Array {
    if (size === 0) throw this.#error(size, 'the file is empty');
    if (this.#inWord && this.layout === 'lines') this.#endRow(size);
    if (this.#depth > 0 || this.#inString || (this.layout === 'array' && !this.#closed)) {
      throw new DataError(`${this.#file} ends in the middle of row ${Math.floor(this.#spanCount / 2)}`, {
        hint: 'the file is cut off: fetch or write it again',
      });
    }
    return this.#spans.slice(0, this.#spanCount);
  }

  /** Where the string ends that goes on at `from`, or the bytes do. Most bytes of a file are in strings, so this loop has locals alone. */
  #skipString(bytes: Uint8Array, from: number): number {
    const length = bytes.length;
    let i = from;
    if (this.#escaped) {
      this.#escaped = false;
      i++;
    }
    for (; i < length; i++) {
      const byte = bytes[i];
      if (byte === quote) {
        this.#inString = false;
        return i;
      }
      if (byte === backslash) i++;
    }
    this.#escaped = i > length;
    return length;
  }

  #push(at: number): void {
    if (this.#spanCount === this.#spans.length) {
      const larger = new Float64Array(2 * this.#spans.length);
      larger.set(this.#spans);
      this.#spans = larger;
    }
    this.#spans[this.#spanCount++] = at;
  }

  #endRow(at: number): void {
    this.#push(at);
    this.#inWord = false;
    this.#afterRow = true;
  }

  /** A byte outside all brackets and texts. */
  #between(byte: number, at: number): void {
    const isSpace = byte === 0x20 || byte === newline || byte === 0x0d || byte === 0x09;
    const array = this.layout === 'array';
    if (this.#inWord) {
      // What a line holds is one row, so that one which is no JSON leaves the others alone.
      if (array ? !isSpace && byte !== comma && byte !== closeBracket : byte !== newline) return;
      this.#endRow(at);
    }
    if (isSpace) {
      if (byte === newline && !array) this.#afterRow = false;
    } else if (at < 3 && (byte === 0xef || byte === 0xbb || byte === 0xbf)) {
      // a byte order mark
    } else if (this.#closed) {
      throw this.#error(at, 'something follows the array');
    } else if (this.layout === undefined && byte === openBracket) {
      this.layout = 'array';
    } else if (array && byte === comma && this.#afterRow) {
      this.#afterRow = false;
    } else if (array && byte === closeBracket) {
      this.#closed = true;
    } else if (this.#afterRow) {
      const wanted = `a ${array ? 'comma' : 'line break'} should follow row ${this.#spanCount / 2 - 1}`;
      throw this.#error(at, `${wanted}, found ${JSON.stringify(String.fromCharCode(byte))}`);
    } else if ((this.layout === undefined && byte !== openBrace) || byte === comma) {
      const found = `row ${this.#spanCount / 2} should begin with "{", found ${JSON.stringify(String.fromCharCode(byte))}`;
      throw this.#error(at, found, at === 0 ? otherKinds[byte] : undefined);
    } else {
      this.layout ??= 'lines';
      this.#push(at);
      if (byte === openBrace || byte === openBracket) this.#depth = 1;
      else if (byte === quote) this.#inString = true;
      else this.#inWord = true;
    }
  }

  #error(at: number, what: string, hint = 'conversations are a JSON array of objects, or one object a line (JSONL)'): DataError {
    return new DataError(`${this.#file}, byte ${at}: ${what}`, { hint });
  }
}
