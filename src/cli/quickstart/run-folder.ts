import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ConfigError } from '../../errors.ts';

/** Written last; a folder with it holds a finished run. */
export const finishedFile = 'quickstart.json';
const ownerFile = 'process-id';

/** What stands where the run is to go. */
export type Occupant = 'nothing' | 'run';

/** Looks at the place of a run. Throws ConfigError for a folder with other files or one that another process is writing. */
export async function occupant(out: string): Promise<Occupant> {
  const owner = runningOwner(out);
  if (owner !== undefined) {
    throw new ConfigError(`${out} is being written by another quickstart (process ${owner})`, {
      hint: 'wait for it, or name another folder with --out',
    });
  }
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

function runningOwner(out: string): number | undefined {
  const file = join(partialOf(out), ownerFile);
  const id = existsSync(file) ? Number(readFileSync(file, 'utf8')) : Number.NaN;
  if (!Number.isInteger(id) || id === process.pid) return undefined;
  try {
    process.kill(id, 0);
    return id;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? id : undefined;
  }
}

/**
 * Lets `work` fill a folder beside `out` which takes the place of `out` only when all is done, so that an earlier run stays until then. A
 * failure or an interruption leaves nothing behind; what a killed process left is removed by the next.
 */
export async function inRunFolder<Result>(out: string, work: (partial: string) => Promise<Result>): Promise<Result> {
  const partial = partialOf(out);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await writeFile(join(partial, ownerFile), String(process.pid));
  try {
    const result = await work(partial);
    await rm(join(partial, ownerFile));
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
