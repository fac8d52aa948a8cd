import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CheckpointError } from './errors.ts';

/** Puts what was written to a file, or the names in a folder, on the disk. */
export function flush(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Gives a file a text, whole and on the disk, or leaves it as it was and throws CheckpointError. */
export function replaceText(path: string, text: string): void {
  const draft = join(dirname(path), `.${basename(path)}.part`);
  try {
    writeFileSync(draft, text, { flush: true });
    renameSync(draft, path);
  } catch (cause) {
    rmSync(draft, { force: true });
    throw new CheckpointError(`${path}: cannot be written: ${(cause as Error).message}`, { cause, hint: 'make room' });
  }
  flush(dirname(path));
}
