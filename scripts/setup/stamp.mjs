import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A hash of the names, sizes and modification times of files and of all files in folders; missing ones count as such.
 * @param {readonly string[]} paths
 */
export function fingerprint(paths) {
  const hash = createHash('sha1');
  /** @param {string} path */
  const add = (path) => {
    const facts = statSync(path, { throwIfNoEntry: false });
    if (facts?.isDirectory()) for (const name of readdirSync(path).sort()) add(join(path, name));
    else hash.update(`${path} ${facts?.size} ${facts?.mtimeMs}\n`);
  };
  for (const path of paths) add(path);
  return hash.digest('hex');
}

/** The parsed JSON of a file, or undefined when it is missing or damaged. @param {string} path @returns {any} */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Writes JSON so that a reader sees the old file or the new one. @param {string} path @param {unknown} value */
export function writeJson(path, value) {
  const partial = `${path}.${process.pid}`;
  writeFileSync(partial, `${JSON.stringify(value, undefined, 2)}\n`);
  renameSync(partial, path);
}
