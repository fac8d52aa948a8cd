import { lstat, readdir, rmdir, statfs } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { CheckpointError } from '../errors.ts';
import { putInPlace, withDraft } from '../model/folder-draft.ts';

/** Where a conversion goes: a folder of its own, or files beside others. */
export interface Destination {
  readonly path: string;
  /** The files by name where the path is that of a file. */
  readonly files?: readonly string[];
}

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

const modelFile = /^config\.json$|\.(gguf|safetensors)$/;

/** Whether replacing a path loses a model and nothing else. */
async function isModel(path: string): Promise<boolean> {
  const names = (await lstat(path)).isDirectory() ? await readdir(path) : [basename(path)];
  return names.length === 0 || names.some((name) => modelFile.test(name));
}

/** Throws CheckpointError where something is in the way of a conversion from `source`; with `force` a model is not. */
export async function checkDestination({ path, files }: Destination, source: string, { force }: { force: boolean }): Promise<void> {
  const within = relative(resolve(path), resolve(source));
  if (within === '' || (files === undefined && !within.startsWith('..'))) {
    throw new CheckpointError(`${path}: is the model that is converted, or holds it`, { hint: 'give a path beside it' });
  }
  const targets = files?.map((name) => join(dirname(path), name)) ?? [path];
  for (const target of targets) {
    if (!(await isThere(target))) continue;
    if (!force) throw new CheckpointError(`${target} exists`, { hint: 'choose another path, or replace it with --force' });
    if (!(await isModel(target)))
      throw new CheckpointError(`${target} is not a model's folder, and is not replaced`, { hint: 'choose another path' });
  }
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toLocaleString('en-US', { maximumSignificantDigits: 3 })} GB`;

/** Throws CheckpointError unless the disk has room for so many bytes. */
export async function checkSpace({ path }: Destination, bytes: number): Promise<void> {
  let folder = dirname(resolve(path));
  while (!(await isThere(folder)) && folder !== dirname(folder)) folder = dirname(folder);
  const { bavail, bsize } = await statfs(folder);
  if (bytes <= bavail * bsize) return;
  throw new CheckpointError(`${path}: the result takes ${gigabytes(bytes)}, its disk has ${gigabytes(bavail * bsize)} left`, {
    hint: 'free space, choose another disk, or store weights in fewer bits',
  });
}

/** Lets `fill` write to a draft, and puts what it wrote in place at the end, all of it or nothing. Throws CheckpointError, and what aborted `signal`. */
export async function writeDestination(
  { path, files }: Destination,
  fill: (draft: string, signal: AbortSignal | undefined) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const write = (draft: string): Promise<void> => fill(draft, signal);
  try {
    if (!files) return await withDraft(path, write);
    await withDraft(path, write, async (draft) => {
      for (const name of files) await putInPlace(join(draft, name), join(dirname(resolve(path)), name));
      await rmdir(draft);
    });
  } catch (cause) {
    signal?.throwIfAborted();
    const full = cause instanceof Error && /No space left|ENOSPC/.test(cause.message);
    if (!full) throw cause;
    throw new CheckpointError(`${path}: the disk is full`, { hint: 'nothing was left behind; free space, or choose another disk', cause });
  }
}
