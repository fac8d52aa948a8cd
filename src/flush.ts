import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Puts what was written to a file, or the names in a folder, on the disk. */
export function flush(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Gives a file a text, whole and on the disk, or leaves it as it was. */
export function replaceText(path: string, text: string): void {
  const draft = join(dirname(path), `.${basename(path)}.part`);
  writeFileSync(draft, text, { flush: true });
  renameSync(draft, path);
  flush(dirname(path));
}
