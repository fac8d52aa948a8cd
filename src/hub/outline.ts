import { existsSync } from 'node:fs';
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { HubApi } from './api.ts';

/** A file of a commit of which a part is asked. */
interface Part {
  readonly commit: string;
  readonly name: string;
  readonly signal: AbortSignal;
}

/** As much as holds most headers. */
const usualBytes = 100_000;

async function firstBytes(api: HubApi, { commit, name, signal }: Part, count: number): Promise<Buffer> {
  const { body } = await api.content(commit, name, { from: 0, until: count, signal });
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop ends an answer that goes on, from servers that know no ranges.
  for await (const piece of body ?? []) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= count) break;
  }
  return Buffer.concat(pieces).subarray(0, count);
}

/** Fetches the header of a safetensors file into `folder`, with a hole of the length of the weights behind it: it opens as the whole file does. */
export async function fetchOutline(folder: string, bytes: number, { api, ...part }: Part & { readonly api: HubApi }): Promise<void> {
  const start = await firstBytes(api, part, Math.min(usualBytes, bytes));
  const end = start.length < 8 ? start.length : 8 + Math.min(Number(start.readBigUInt64LE()), bytes);
  const header = end <= start.length ? start.subarray(0, end) : await firstBytes(api, part, end);
  const path = join(folder, part.name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, header);
  await truncate(path, bytes);
}

/** Makes files that are cached stand in `folder` too, where it has none of their name. */
export async function standIn(folder: string, snapshot: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const path = join(folder, name);
    if (existsSync(path)) continue;
    await mkdir(dirname(path), { recursive: true });
    await symlink(join(snapshot, name), path);
  }
}
