import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { DataError, type ErrorDetails, isSystemError, TinyLlavaError } from './errors.ts';

const wrongPaths: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG', 'ELOOP']);

/** Whether reading failed for a disk, a network or a limit of the system, which says nothing of the data and may be gone the next time. */
function isSystemFault(error: unknown): boolean {
  return isSystemError(error) && !wrongPaths.has(error.code);
}

/** What to throw where data cannot be read: a DataError, for which a row may be left out, unless the cause is the system's fault. */
export function readError(message: string, { cause, ...details }: ErrorDetails): TinyLlavaError {
  if (!isSystemFault(cause)) return new DataError(message, { ...details, cause });
  return new TinyLlavaError(message, { hint: 'the data may be sound: see to the disk or the network, and try again', cause });
}

/** What the system knows of a file; undefined where there is none. */
export async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (cause) {
    if (isSystemFault(cause)) throw readError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
    return undefined;
  }
}
