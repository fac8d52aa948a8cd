import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../../errors.ts';
import { cleanCaption, conceptOf, nounOf } from './caption.ts';

/** One picture of Tux Paint's stamps with its caption. */
export interface Stamp {
  /** Its path without the ending, such as `animals/birds/penguin`. */
  readonly name: string;
  /** The PNG, or the SVG where there is no PNG. */
  readonly file: string;
  readonly caption: string;
  readonly concept: string;
  readonly noun: string;
}

/** Where the Debian package puts them. */
const inPackage = 'usr/share/tuxpaint/stamps';

/** Letters, coins and signs have to be read or learned by heart; a caption of them says nothing that can be seen. */
const left = /^(?:symbols|town\/roadsigns|people\/body_parts)\//;

/** The stamps whose captions describe what is seen, in the order of their names; `folder` is what the package was unpacked to. Throws DataError. */
export async function readStamps(folder: string): Promise<Stamp[]> {
  const root = existsSync(join(folder, inPackage)) ? join(folder, inPackage) : folder;
  const hint = 'unpack the Debian package tuxpaint-stamps-default there with `dpkg -x`';
  const files = await readdir(root, { recursive: true }).catch((cause: Error) => {
    throw new DataError(`${folder} cannot be read: ${cause.message}`, { hint, cause });
  });
  const known = new Set(files.map((file) => file.replaceAll('\\', '/')));
  const names = [...known].filter((file) => file.endsWith('.txt')).map((file) => file.slice(0, -4));
  const stamps: Stamp[] = [];
  for (const name of names.sort()) {
    const ending = ['.png', '.svg'].find((one) => known.has(name + one));
    if (ending === undefined || left.test(name)) continue;
    const [line = ''] = (await readFile(join(root, `${name}.txt`), 'utf8')).split('\n');
    const caption = cleanCaption(line);
    if (caption === undefined) continue;
    stamps.push({ name, file: join(root, name + ending), caption, concept: conceptOf(caption), noun: nounOf(caption) });
  }
  if (stamps.length === 0) throw new DataError(`${folder} holds no stamps with captions`, { hint });
  return stamps;
}
