import { existsSync } from 'node:fs';
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ConfigError } from '../../errors.ts';
import { checkUnlocked, lockFolder, lockName } from '../../folder-lock.ts';

/** Written last; a folder with it holds a finished run. */
export const finishedFile = 'quickstart.json';
const lock = { work: 'quickstart' } as const;

/** What stands where the run is to go. */
export type Occupant = 'nothing' | 'run';

/** Looks at the place of a run. Throws ConfigError for a folder with other files or one that another process is writing. */
export async function occupant(out: string): Promise<Occupant> {
  checkUnlocked(partialOf(out), lock);
  const names = await readdir(out).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return [];
    throw new ConfigError(`${out} cannot be used: ${error.message}`, { hint: 'name another folder with --out', cause: error });
  });
  if (names.length === 0) return 'nothing';
  if (names.includes(finishedFile)) return 'run';
  throw new ConfigError(
    `${out} holds files that are not of a quickstart: ${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}`,
    {
      hint: 'name another folder with --out',
    },
  );
}

const partialOf = (out: string): string => `${resolve(out)}.partial`;

/**
 * Lets `work` fill a folder beside `out` which takes the place of `out` only when all is done, so that an earlier run stays until then. A
 * failure or an interruption leaves nothing behind; what a killed process left is removed by the next.
 */
export async function inRunFolder<Result>(out: string, work: (partial: string) => Promise<Result>): Promise<Result> {
  const partial = partialOf(out);
  const held = lockFolder(partial, lock);
  try {
    const left = (await readdir(partial)).filter((name) => name !== lockName(lock));
    for (const name of left) await rm(join(partial, name), { recursive: true, force: true });
    const result = await work(partial);
    held[Symbol.dispose]();
    await replace(resolve(out), partial);
    return result;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function replace(out: string, partial: string): Promise<void> {
  const old = `${out}.old`;
  await rm(old, { recursive: true, force: true });
  if (existsSync(out)) await rename(out, old);
  await rename(partial, out);
  await rm(old, { recursive: true, force: true });
}

/** When the run in the folder was finished, as its last file says. */
export async function finishedAt(out: string): Promise<string | undefined> {
  const text = await readFile(join(out, finishedFile), 'utf8').catch(() => '{}');
  const { finished }: { finished?: unknown } = JSON.parse(text);
  return typeof finished === 'string' ? finished : undefined;
}
