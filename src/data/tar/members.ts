import { type FileHandle, open } from 'node:fs/promises';
import { Header, type HeaderData } from 'tar/header';
import { Pax } from 'tar/pax';
import { DataError } from '../../errors.ts';

/** A file in an archive. */
export interface Member {
  readonly path: string;
  /** Where its bytes begin in the archive. */
  readonly offset: number;
  readonly size: number;
}

const block = 512;
/** A header, the texts behind it and, mostly, the next header. */
const windowBytes = 8192;
const files: ReadonlySet<string> = new Set(['File', 'OldFile', 'ContiguousFile']);
const gzip = Buffer.from([0x1f, 0x8b]);

/**
 * The files of a tar archive, in its order, with GNU's and pax' long names. Headers alone are read: streams of tar libraries would read every body too. Throws DataError
 * for what is no archive and for one that is cut off.
 */
export async function* tarMembers(path: string): AsyncGenerator<Member, void, undefined> {
  await using file = await opened(path);
  const { size: end } = await file.stat();
  const window = new Window(file, end);
  if (end === 0) throw cutOff(path, 'its first header');
  let local: HeaderData | undefined;
  let global: HeaderData | undefined;
  for (let at = 0; at < end; ) {
    const bytes = await window.read(at, Math.min(block, end - at));
    if (at === 0 && bytes.subarray(0, 2).equals(gzip)) {
      throw new DataError(`${path} is packed by gzip, rows of which cannot be found again`, { hint: 'unpack it: gunzip' });
    }
    if (bytes.length < block) throw cutOff(path, 'a header');
    const header = new Header(bytes, 0, local, global);
    if (header.nullBlock) return;
    if (!header.cksumValid) {
      throw new DataError(`${path}, byte ${at}: no header of a tar archive`, { hint: 'fetch the shard again, or leave it out' });
    }
    const [offset, size, name] = [at + block, header.size ?? 0, header.path ?? ''];
    at = offset + Math.ceil(size / block) * block;
    if (at > end) throw cutOff(path, name);
    const body = async (): Promise<string> => (await window.read(offset, size)).toString();
    if (header.type === 'ExtendedHeader') local = Pax.parse(await body(), local, false);
    else if (header.type === 'GlobalExtendedHeader') global = Pax.parse(await body(), global, true);
    else if (header.type === 'NextFileHasLongPath') local = { ...local, path: (await body()).replace(/\0.*$/s, '') };
    else if (header.type !== 'NextFileHasLongLinkpath') {
      if (files.has(header.type)) yield { path: name, offset, size };
      local = undefined;
    }
  }
}

async function opened(path: string): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new DataError(missing ? `${path} does not exist` : `${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

const cutOff = (path: string, where: string): DataError =>
  new DataError(`${path} ends in the middle of ${where}`, { hint: 'the shard is cut off: fetch it again, or leave it out' });

/** Pieces of a file, a few of which come with one read. */
class Window {
  readonly #file: FileHandle;
  readonly #end: number;
  #from = 0;
  #bytes = Buffer.alloc(0);

  constructor(file: FileHandle, end: number) {
    this.#file = file;
    this.#end = end;
  }

  async read(from: number, size: number): Promise<Buffer> {
    if (from < this.#from || from + size > this.#from + this.#bytes.length) {
      const bytes = Buffer.alloc(Math.min(Math.max(size, windowBytes), this.#end - from));
      const { bytesRead } = await this.#file.read(bytes, 0, bytes.length, from);
      [this.#from, this.#bytes] = [from, bytes.subarray(0, bytesRead)];
    }
    return this.#bytes.subarray(from - this.#from, from - this.#from + size);
  }
}
