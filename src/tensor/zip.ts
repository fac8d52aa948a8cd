import { CheckpointError } from '../errors.ts';

/** A file inside a zip file: where its bytes lie, and whether they lie there as they are. */
interface ZipEntry {
  readonly offset: number;
  readonly bytes: number;
  readonly stored: boolean;
}

/** Reads `length` bytes at `offset`. */
type ReadBytes = (offset: number, length: number) => Buffer;

const endBytes = 22;
const longestComment = 65_535;
const endMark = 0x06054b50;
const end64Mark = 0x06064b50;
const locatorMark = 0x07064b50;
const entryMark = 0x02014b50;
const localMark = 0x04034b50;

interface Directory {
  readonly entries: number;
  readonly bytes: number;
  readonly offset: number;
}

const big = (data: Buffer, at: number): number => Number(data.readBigUInt64LE(at));

function findDirectory(read: ReadBytes, bytes: number): Directory | undefined {
  const tailBytes = Math.min(bytes, endBytes + longestComment);
  const tail = read(bytes - tailBytes, tailBytes);
  for (let at = tailBytes - endBytes; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== endMark) continue;
    const end = { entries: tail.readUInt16LE(at + 10), bytes: tail.readUInt32LE(at + 12), offset: tail.readUInt32LE(at + 16) };
    if (at < 20 || tail.readUInt32LE(at - 20) !== locatorMark) return end;
    // Files above 4 GiB, or of 65535 entries, say these three numbers in a record of their own.
    const where = big(tail, at - 12);
    if (where > bytes - 56) return undefined;
    const end64 = read(where, 56);
    if (end64.readUInt32LE(0) !== end64Mark) return undefined;
    return { entries: big(end64, 32), bytes: big(end64, 40), offset: big(end64, 48) };
  }
  return undefined;
}

/** The three numbers of an entry that an extra field holds where four bytes were too few. */
function wide(extra: Buffer, short: readonly [size: number, packed: number, offset: number]): number[] {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    let next = at + 4;
    return short.map((value) => {
      if (value !== 0xffffffff || next + 8 > extra.length) return value;
      next += 8;
      return big(extra, next - 8);
    });
  }
  return [...short];
}

/** The files inside a zip file of `bytes` bytes, by name. Throws CheckpointError for one that is cut short or no zip file. */
export function zipEntries(read: ReadBytes, path: string, bytes: number): ReadonlyMap<string, ZipEntry> {
  const fail = (what: string): never => {
    throw new CheckpointError(`${path}: ${what}`, { hint: 'the file is damaged or was not written by torch.save; fetch or save it again' });
  };
  const directory = bytes < endBytes ? undefined : findDirectory(read, bytes);
  if (!directory) return fail(`cut short or no zip file: no directory at the end of its ${bytes} bytes`);
  if (directory.offset + directory.bytes > bytes)
    return fail(`its zip directory ends at byte ${directory.offset + directory.bytes}, the file at ${bytes}`);
  const data = read(directory.offset, directory.bytes);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < directory.entries; i++) {
    if (at + 46 > data.length || data.readUInt32LE(at) !== entryMark) return fail(`entry ${i} of its zip directory is damaged`);
    const [nameBytes, extraBytes, commentBytes] = [data.readUInt16LE(at + 28), data.readUInt16LE(at + 30), data.readUInt16LE(at + 32)];
    const name = data.toString('utf8', at + 46, at + 46 + nameBytes);
    const extra = data.subarray(at + 46 + nameBytes, at + 46 + nameBytes + extraBytes);
    const [size = 0, packed = 0, local = 0] = wide(extra, [
      data.readUInt32LE(at + 24),
      data.readUInt32LE(at + 20),
      data.readUInt32LE(at + 42),
    ]);
    if (local + 30 > bytes) return fail(`${name} begins at byte ${local}, the file ends at ${bytes}`);
    const header = read(local, 30);
    if (header.readUInt32LE(0) !== localMark) return fail(`${name} does not begin where the zip directory says`);
    const offset = local + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (offset + packed > bytes) return fail(`${name} ends at byte ${offset + packed}, the file at ${bytes}`);
    entries.set(name, { offset, bytes: size, stored: data.readUInt16LE(at + 10) === 0 && size === packed });
    at += 46 + nameBytes + extraBytes + commentBytes;
  }
  return entries;
}
