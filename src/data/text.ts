import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { DataError } from '../errors.ts';

/** Whether a file holds others, packed, by its name. */
export const isArchive = (file: string): boolean => /\.(tar|tgz|zip|gz|zst|7z|rar|bz2|xz)$/i.test(file);

/** Bytes as text; `name` is where they are from. Throws DataError for another encoding than UTF-8, whose letters would be lost without a word. */
export function decodeText(bytes: Buffer, name: string): string {
  if (isUtf8(bytes)) return bytes.toString();
  throw new DataError(`${name} is not in UTF-8`, { hint: 'save the text again as UTF-8' });
}

/** A file as text without a byte order mark, piece by piece, cut between letters. Throws as `decodeText` does. */
export async function* textPieces(path: string): AsyncGenerator<string, void, undefined> {
  let rest = Buffer.alloc(0);
  let begun = false;
  const decoded = (bytes: Buffer): string => {
    const text = decodeText(bytes, path);
    const marked = !begun && text.startsWith('\ufeff');
    begun ||= text !== '';
    return marked ? text.slice(1) : text;
  };
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    const bytes = Buffer.concat([rest, piece]);
    let last = bytes.length - 1;
    while (last > 0 && ((bytes[last] ?? 0) & 0xc0) === 0x80) last--;
    yield decoded(bytes.subarray(0, last));
    rest = bytes.subarray(last);
  }
  yield decoded(rest);
}
