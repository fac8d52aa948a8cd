import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { SetupFailure } from './failure.mjs';
import { withLock } from './lock.mjs';
import { readJson, writeJson } from './stamp.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

/** The folder that clones share: libtorch and data. @param {Env} env */
export function cacheFolder(env) {
  return resolve(env['TINYLLAVA_CACHE'] || join(env['XDG_CACHE_HOME'] || join(env['HOME'] || homedir(), '.cache'), 'tinyllava'));
}

/** Throws when the disk of an existing folder has less than `bytes` left. @param {string} folder @param {number} bytes @param {string} what */
export function requireSpace(folder, bytes, what) {
  const { bavail, bsize } = statfsSync(folder);
  /** @param {number} count */
  const gigabytes = (count) => `${(count / 1e9).toFixed(1)} GB`;
  if (bavail * bsize >= bytes) return;
  throw new SetupFailure(
    `${what} needs ${gigabytes(bytes)} of disk and ${folder} has ${gigabytes(bavail * bsize)} left`,
    'free some space there (or set TINYLLAVA_CACHE to a folder on another disk, for what clones share) and run this again',
  );
}

/** The size of a file, or the number of entries of a folder. @param {string} path */
function extent(path) {
  const facts = statSync(path, { throwIfNoEntry: false });
  return facts?.isDirectory() ? readdirSync(path).length : facts?.size;
}

/** Whether the entry at `place` is whole: its last file to be written says how large its parts are. @param {string} place */
export function isComplete(place) {
  const parts = Object.entries(readJson(join(place, 'complete.json')) ?? {});
  return parts.length > 0 && parts.every(([path, size]) => extent(join(place, path)) === size);
}

/**
 * Puts an entry into the cache unless it is there and whole. `make` gets an empty folder and returns the folder in it that
 * becomes the entry; it is renamed to its place when it is whole, so what a killed run leaves is never used. One process at a
 * time makes an entry. `parts` are the files and folders whose sizes are checked from then on.
 * @param {{ place: string, what: string, bytes: number, parts: readonly string[], make: (folder: string) => Promise<string>, say: (line: string) => void }} options
 */
export async function cacheOnce({ place, what, bytes, parts, make, say }) {
  if (isComplete(place)) return;
  mkdirSync(dirname(place), { recursive: true });
  const waiting = () => say(`another process is installing ${what}; waiting for it`);
  await withLock(`${place}.lock`, () => replace({ place, what, bytes, parts, make, say }), { waiting });
}

/** @param {Parameters<typeof cacheOnce>[0]} options */
async function replace({ place, what, bytes, parts, make, say }) {
  if (isComplete(place)) return;
  const parent = dirname(place);
  const prefix = `${basename(place)}.partial-`;
  for (const name of readdirSync(parent)) {
    if (name.startsWith(prefix)) rmSync(join(parent, name), { recursive: true, force: true });
  }
  if (existsSync(place)) {
    say(`replacing what is damaged in ${place}`);
    rmSync(place, { recursive: true, force: true });
  }
  requireSpace(parent, bytes, `installing ${what}`);
  say(`installing ${what} into ${place}`);
  const partial = join(parent, prefix + process.pid);
  mkdirSync(partial);
  try {
    const made = await make(partial);
    writeJson(join(made, 'complete.json'), Object.fromEntries(parts.map((path) => [path, extent(join(made, path))])));
    renameSync(made, place);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}
