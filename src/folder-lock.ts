import { accessSync, constants, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from './errors.ts';
import { makeFolder } from './make-folder.ts';

/** Who writes to a folder: `started` tells a process from a later one with its number, where the system says when it began. */
const Holder = z.strictObject({ host: z.string(), pid: z.int().positive(), started: z.string() });
type Holder = z.output<typeof Holder>;

/** How a folder is taken. */
export interface FolderLockOptions {
  /** What is done in the folder; different works do not keep each other out. */
  readonly work: 'evaluation' | 'quickstart' | 'training';
  /** What is thought of a process on another host, which cannot be seen from here: that it is `running`, unless said otherwise, or `gone`. */
  readonly elsewhere?: 'running' | 'gone';
}

/** The file of a lock in its folder. */
export const lockName = ({ work }: FolderLockOptions): string => `${work}.lock`;

/**
 * Takes a folder, which is made where there is none, for this process until the lock is disposed of. A lock that a process has left, say because it was
 * killed, is taken over. Throws ConfigError where another process is at the same work there, or this one already is, and where nothing can be written.
 */
export function lockFolder(folder: string, options: FolderLockOptions): Disposable {
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw new ConfigError(`${folder} cannot be written to: ${(cause as Error).message}`, { hint: 'name another folder with --out', cause });
  }
  const path = join(folder, lockName(options));
  const self: Holder = { host: hostname(), pid: process.pid, started: startOf(process.pid) ?? '' };
  const text = `${JSON.stringify(self)}\n`;
  while (!created(path, text)) remove(path, leftBehind(folder, options));
  clear(folder, options);
  return { [Symbol.dispose]: () => remove(path, text) };
}

/** Throws ConfigError where `lockFolder` does. */
export function checkUnlocked(folder: string, options: FolderLockOptions): void {
  leftBehind(folder, options);
}

/** What the lock says that a process has left in a folder; nothing where there is none. Throws ConfigError for one that is held. */
function leftBehind(folder: string, options: FolderLockOptions): string | undefined {
  const path = join(folder, lockName(options));
  const text = read(path);
  if (text === undefined) return undefined;
  const what = `${folder} is being written by another ${options.work} run`;
  const hint = 'wait for it, or name another folder with --out';
  const holder = holderOf(text);
  if (isLeft(holder, options)) return text;
  if (holder?.host === hostname()) throw new ConfigError(`${what} (process ${holder.pid} on ${holder.host})`, { hint });
  const who = holder ? `process ${holder.pid} on ${holder.host}, which cannot be seen from ${hostname()}` : `${path} does not say by whom`;
  throw new ConfigError(`${what} (${who})`, { hint: `${hint}; should it be gone, remove ${path}` });
}

function created(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** What a lock says; nothing where there is none. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function holderOf(text: string): Holder | undefined {
  try {
    return Holder.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Where a lock is while the process that removes it looks whose it is. */
const movedName = (name: string, pid: number | string): string => `${name}.${pid}`;

/** Removes a lock that says `text`, and no other, which somebody may have made meanwhile. */
function remove(path: string, text: string | undefined): void {
  if (text === undefined) return;
  const moved = movedName(path, process.pid);
  try {
    renameSync(path, moved);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const found = read(moved);
  if (found === text) rmSync(moved, { force: true });
  else if (found !== undefined) renameSync(moved, path);
}

/** Removes what processes have left that were killed while they removed a lock. */
function clear(folder: string, options: FolderLockOptions): void {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(movedName(lockName(options), ''))) continue;
    const path = join(folder, name);
    if (isLeft(holderOf(read(path) ?? ''), options)) rmSync(path, { force: true });
  }
}

/** Whether the holder of a lock is gone, as far as can be seen. */
function isLeft(holder: Holder | undefined, { elsewhere }: FolderLockOptions): boolean {
  return holder?.host === hostname() ? !isRunning(holder) : elsewhere === 'gone';
}

function isRunning({ pid, started }: Holder): boolean {
  const now = startOf(pid);
  return now !== undefined && (now === started || now === '' || started === '');
}

/** When a running process began, as Linux counts; empty where the system does not tell, and nothing where there is no such process. */
function startOf(pid: number): string | undefined {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return undefined;
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const facts = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended; only its parent has not asked how.
    return facts[0] === 'Z' ? undefined : (facts[19] ?? '');
  } catch {
    return '';
  }
}
