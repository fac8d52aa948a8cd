import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CheckpointError } from '../errors.ts';
import { flush } from '../flush.ts';
import { makeFolder } from '../make-folder.ts';

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Puts what is finished in the place of what is there; when that fails, what was there stays. */
export async function putInPlace(draft: string, target: string): Promise<void> {
  if (!(await exists(target))) return rename(draft, target);
  const old = join(dirname(target), `.${basename(target)}.${process.pid}.old`);
  await rename(target, old);
  try {
    await rename(draft, target);
  } catch (cause) {
    await rename(old, target);
    throw cause;
  }
  await rm(old, { recursive: true });
}

/**
 * Lets `fill` write to an empty folder beside `target`, after which `place` moves it there, so that nothing half-written has the name; by
 * default the folder takes the place of what is there. It outlasts a loss of power if `fill` has flushed its files. Throws CheckpointError, and
 * then leaves nothing behind.
 */
export async function withDraft(
  target: string,
  fill: (draft: string) => Promise<void>,
  place: (draft: string) => Promise<void> = (draft) => putInPlace(draft, resolve(target)),
): Promise<void> {
  const path = resolve(target);
  const draft = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  try {
    await rm(draft, { recursive: true, force: true });
    makeFolder(draft);
    await fill(draft);
    flush(draft);
    await place(draft);
    flush(dirname(path));
  } catch (cause) {
    await rm(draft, { recursive: true, force: true });
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${target}: cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/** Writes files by their plain names into the draft of `target`. Throws CheckpointError for a name that leads elsewhere. */
export async function writeFiles(draft: string, files: Readonly<Record<string, string | Uint8Array>>, target: string): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    if (basename(name) !== name) throw new CheckpointError(`${target}: the file name "${name}" is not a plain one`);
    await writeFile(join(draft, name), content, { flush: true });
  }
}
