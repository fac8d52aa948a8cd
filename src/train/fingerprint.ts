import { createHash, type Hash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { type FoundData, findDataFiles } from '../data/find.ts';
import { inLanes } from '../data/lanes.ts';
import type { Source } from './recipe.ts';

const block = 2 ** 20;
/** Blocks that are read of the files of a name, all together. */
const most = 64;

/** Adds a file's contents: all of them up to so many blocks of 1 MiB, else blocks that are spread over it. */
async function addContents(hash: Hash, path: string, size: number, blocks: number): Promise<void> {
  await using file = await open(path);
  const buffer = Buffer.alloc(block);
  const count = Math.min(blocks, Math.ceil(size / block));
  for (let i = 0; i < count; i++) {
    const from = size <= blocks * block ? i * block : Math.floor((i * (size - block)) / Math.max(1, blocks - 1));
    const { bytesRead } = await file.read(buffer, 0, block, from);
    hash.update(buffer.subarray(0, bytesRead));
  }
}

/**
 * The files' length and a SHA-256: of the contents of one file, and of the names and sizes of several and the contents of up to 64 of them; of `images`
 * the names alone.
 */
async function fingerprint({ files, images = [] }: FoundData): Promise<string> {
  const hash = createHash('sha256');
  for (const image of images) hash.update(`${image}\0`);
  const sizes = await inLanes(files.length, async (i) => (await stat(files[i] ?? '')).size);
  if (files.length > 1) for (const [i, file] of files.entries()) hash.update(`${basename(file)}\0${sizes[i]}\0`);
  const looked = Math.min(most, files.length);
  for (let i = 0; i < looked; i++) {
    const place = Math.floor((i * files.length) / looked);
    await addContents(hash, files[place] ?? '', sizes[place] ?? 0, Math.floor(most / looked));
  }
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  return `${bytes} bytes${files.length > 1 ? ` in ${files.length} files` : ''}, sha256 ${hash.digest('hex')}`;
}

/** What a stage's data is now, one line for each name, for recognising it later. Images are not looked at but in shards. */
export async function dataFingerprints(sources: readonly Source[], root: string): Promise<string[]> {
  const names = [...new Set(sources.map(({ conversations }) => conversations))];
  return Promise.all(
    names.map(async (name) => {
      return `${name}: ${await fingerprint(await findDataFiles(resolve(root, name)))}`;
    }),
  );
}
