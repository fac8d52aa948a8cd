import { createWriteStream, existsSync, readdirSync } from 'node:fs';
import { access, constants, mkdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { DataError } from '../../errors.ts';
import { makeFolder } from '../../make-folder.ts';
import { Dataset } from '../dataset.ts';
import type { FixedData, Flaw } from '../report.ts';
import type { OpenRows } from '../rows.ts';
import { LlavaRows } from './llava-rows.ts';

/** A row that may be in a subset, and why it is not. */
export interface Choice {
  readonly row: number;
  readonly flaw: Flaw | undefined;
}

const droppedFileOf = (file: string): string => `${file}.dropped.jsonl`;

/** Where images go that lie inside the rows. */
const imagesOf = (file: string): string => `${file.replace(/\.jsonl?$/, '')}.images`;

const draftOf = (path: string): string => join(dirname(path), `.${basename(path)}.${process.pid}.part`);

/** Makes the folder of a subset. Throws DataError where the subset would replace a file or cannot be written. */
export async function checkCleanFile(file: string): Promise<void> {
  const there = [file, droppedFileOf(file), imagesOf(file)].find(existsSync);
  if (there !== undefined) throw new DataError(`${there} exists`, { hint: 'give a path where nothing is yet' });
  try {
    makeFolder(dirname(file));
    await access(dirname(file), constants.W_OK);
  } catch (cause) {
    throw new DataError(`${file} cannot be written: ${(cause as Error).message}`, { hint: 'choose another folder', cause });
  }
}

/**
 * Writes the rows without a flaw: as an array where the name ends in .json, one a line where it ends in .jsonl, else as they stood. Those of JSON stay
 * byte for byte; of other forms they become LLaVA's, with the images that lie inside them in a folder beside the file. What is left out is named in another file. All is put
 * in place at the end or not at all. Throws DataError where no row would stay.
 */
export async function writeClean(
  source: OpenRows,
  file: string,
  { choices, signal }: { choices: () => Iterable<Choice>; signal: AbortSignal | undefined },
): Promise<FixedData> {
  const [droppedFile, images] = [droppedFileOf(file), imagesOf(file)];
  const json = source instanceof Dataset ? source : undefined;
  const layout = file.endsWith('.jsonl') ? 'lines' : file.endsWith('.json') ? 'array' : (json?.layout ?? 'lines');
  const llava = new LlavaRows(draftOf(images), images);
  const textOf = async (row: number): Promise<string | Buffer> => {
    if (!json) return llava.text(row, await source.row(row));
    return layout === 'array' ? json.bytes(row) : onOneLine(json.bytes(row));
  };
  const counts = { rows: 0, dropped: 0 };
  async function* kept(): AsyncGenerator<string | Buffer> {
    if (layout === 'array') yield '[\n';
    for (const { row, flaw } of choices()) {
      if (flaw) continue;
      if (layout === 'array' && counts.rows > 0) yield ',\n';
      yield await textOf(row);
      if (layout === 'lines') yield '\n';
      counts.rows++;
    }
    if (layout === 'array') yield '\n]\n';
  }
  async function* dropped(): AsyncGenerator<string> {
    for (const { row, flaw } of choices()) {
      if (!flaw) continue;
      yield `${JSON.stringify({ row, name: source.nameOf(row), kind: flaw.kind, reason: flaw.message })}\n`;
      counts.dropped++;
    }
  }
  await checkCleanFile(file);
  if (!json) await mkdir(draftOf(images), { recursive: true });
  try {
    await pipeline(inBlocks(kept()), createWriteStream(draftOf(file)), { signal });
    if (counts.rows === 0)
      throw new DataError(`${file} is not written: no row of ${source.file} would be in it`, {
        hint: 'see what is wrong with them by `tinyllava inspect` without --fix',
      });
    await pipeline(inBlocks(dropped()), createWriteStream(draftOf(droppedFile)), { signal });
    await checkCleanFile(file);
    if (!json) await (hasImages(draftOf(images)) ? rename(draftOf(images), images) : rm(draftOf(images), { recursive: true }));
    await rename(draftOf(droppedFile), droppedFile);
    await rename(draftOf(file), file);
  } catch (error) {
    for (const path of [file, droppedFile, images]) await rm(draftOf(path), { recursive: true, force: true });
    signal?.throwIfAborted();
    throw error;
  }
  return { file, droppedFile, ...counts, imageFolder: json?.imageFolder ?? dirname(file) };
}

const hasImages = (folder: string): boolean => readdirSync(folder).length > 0;

const newline = 0x0a;

/** A row without the line breaks that it may have between its keys; inside strings there are none. */
function onOneLine(row: Buffer): Buffer | string {
  return row.includes(newline) ? JSON.stringify(JSON.parse(row.toString())) : row;
}

/** Pieces put together into some that are worth a write. */
async function* inBlocks(pieces: AsyncIterable<string | Buffer>): AsyncGenerator<Buffer> {
  let block: Buffer[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    const buffer = typeof piece === 'string' ? Buffer.from(piece) : piece;
    block.push(buffer);
    bytes += buffer.length;
    if (bytes < 1 << 20) continue;
    yield Buffer.concat(block);
    [block, bytes] = [[], 0];
  }
  yield Buffer.concat(block);
}
