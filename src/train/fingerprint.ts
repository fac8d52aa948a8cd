import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Source } from './recipe.ts';

const block = 2 ** 20;
const most = 64;

/** A file's length and the SHA-256 of its contents: all of it up to 64 MiB, else of 64 blocks of 1 MiB that are spread over it. */
async function fileFingerprint(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const blocks = Math.min(most, Math.ceil(size / block));
    const hash = createHash('sha256');
    const buffer = Buffer.alloc(block);
    for (let i = 0; i < blocks; i++) {
      const from = size <= most * block ? i * block : Math.floor((i * (size - block)) / (most - 1));
      const { bytesRead } = await file.read(buffer, 0, block, from);
      hash.update(buffer.subarray(0, bytesRead));
    }
    return `${size} bytes, sha256 ${hash.digest('hex')}`;
  } finally {
    await file.close();
  }
}

/** What a stage's data files are now, one line each, for recognising them later. Images are not looked at. */
export async function dataFingerprints(sources: readonly Source[], root: string): Promise<string[]> {
  const files = [...new Set(sources.map(({ conversations }) => conversations))];
  return Promise.all(files.map(async (file) => `${file}: ${await fileFingerprint(resolve(root, file))}`));
}
