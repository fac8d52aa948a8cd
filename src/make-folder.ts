import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/**
 * Makes a folder, and those above it, where there is none. Throws the system's error. That of Node tries for ever where the system says of a folder that it
 * may not be made that it does not exist, as Linux does below /proc.
 */
export function makeFolder(path: string): void {
  const [folder, above] = [resolve(path), dirname(resolve(path))];
  try {
    mkdirSync(folder);
  } catch (error) {
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || existsSync(above)) throw error;
    makeFolder(above);
    makeFolder(folder);
  }
}
