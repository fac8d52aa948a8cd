import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../errors.ts';
import { type HubApi, HubRefusal, isPassing, reasonOf } from './api.ts';
import type { RemoteFile } from './cache.ts';

/** One file to fetch: `path` is where its content is to be. */
export interface Wanted extends RemoteFile {
  readonly name: string;
  readonly commit: string;
  readonly path: string;
}

/** How a download goes on when it goes wrong. */
export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** Silence after which a connection, or another process at the same file, counts as dead. */
  readonly timeoutMs: number;
  /** Told how many bytes of the file are there. */
  readonly progress: (bytes: number) => void;
}

const attempts = 5;
const firstPauseMs = 300;
const watchMs = 200;

/** The checksum of what lies on the disk. */
async function checksumOf(handle: FileHandle, { checksum, bytes }: RemoteFile): Promise<string> {
  // What is not kept as a large file has git's checksum: of a header and the content.
  const hash = checksum.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
  const buffer = Buffer.alloc(1 << 20);
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

/**
 * Opens the partial file to go on with it, or gives undefined when another process has finished the file meanwhile. While one is at work, its
 * partial grows; one that was left on purpose has the time 0, one that was killed stands still.
 */
async function takePartial(
  partial: string,
  file: Wanted,
  { signal, timeoutMs, progress }: DownloadOptions,
): Promise<FileHandle | undefined> {
  let [seenBytes, seenMs] = [-1, performance.now()];
  for (;;) {
    signal.throwIfAborted();
    if (existsSync(file.path)) return undefined;
    try {
      return await open(partial, 'wx+');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    }
    const found = await stat(partial).catch(() => undefined);
    if (!found) continue;
    if (found.size !== seenBytes) [seenBytes, seenMs] = [found.size, performance.now()];
    if (found.mtimeMs === 0 || performance.now() - seenMs > timeoutMs) {
      const handle = await open(partial, 'r+').catch(() => undefined);
      await handle?.utimes(new Date(), new Date());
      if (handle) return handle;
    }
    progress(Math.min(found.size, file.bytes));
    await sleep(watchMs, undefined, { signal });
  }
}

/**
 * Receives what the partial lacks. Two processes that do so at once write the same bytes to the same places, so neither harms the other.
 * Throws what the connection throws.
 */
async function receive(api: HubApi, handle: FileHandle, file: Wanted, { signal, timeoutMs, progress }: DownloadOptions): Promise<void> {
  let at = (await handle.stat()).size;
  progress(Math.min(at, file.bytes));
  if (at >= file.bytes) return;
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(new DOMException(`nothing came for ${timeoutMs / 1000} s`, 'TimeoutError')), timeoutMs);
  try {
    const response = await api.content(file.commit, file.name, { from: at, signal: AbortSignal.any([signal, silence.signal]) });
    if (!response.headers.get('content-range')?.startsWith(`bytes ${at}-`)) at = 0;
    for await (const chunk of response.body ?? []) {
      await handle.write(chunk, 0, chunk.length, at);
      at += chunk.length;
      progress(Math.min(at, file.bytes));
      timer.refresh();
      if (at > file.bytes) return;
    }
  } finally {
    clearTimeout(timer);
  }
  if (at < file.bytes) throw new TypeError(`the connection ended behind ${at} of ${file.bytes} bytes`);
}

/** Gives a partial its name when it is whole and has the right checksum; else empties it and throws HubError. */
async function putInPlace(handle: FileHandle, partial: string, { repo, file }: { repo: string; file: Wanted }): Promise<void> {
  const [{ size, ino }, found] = [await handle.stat(), await checksumOf(handle, file)];
  if (size !== file.bytes || found !== file.checksum) {
    await handle.truncate(0);
    const [came, wanted] = [`${size} bytes, checksum ${found}`, `${file.bytes} bytes, checksum ${file.checksum}`];
    throw new HubError(`${repo}: ${file.name} came damaged: expected ${wanted}; got ${came}`, {
      hint: 'try again; a proxy between this machine and the hub may change what it passes on',
    });
  }
  await handle.sync();
  // Another process may have been quicker.
  const ours = await stat(partial).then(
    (there) => there.ino === ino,
    () => false,
  );
  if (ours) await rename(partial, file.path).catch((cause) => existsSync(file.path) || Promise.reject(cause));
}

/**
 * Fetches a file to its place, where it is put whole and with the right checksum or not at all. A cut connection is taken up again where it
 * broke, also by a later process. Throws HubError, the signal's reason, or what the file system says.
 */
export async function download(api: HubApi, file: Wanted, options: DownloadOptions): Promise<void> {
  const partial = `${file.path}.incomplete`;
  let [failures, damaged, furthest] = [0, false, 0];
  const progress = (bytes: number): void => {
    if (bytes > furthest) failures = 0;
    furthest = Math.max(furthest, bytes);
    options.progress(bytes);
  };
  for (;;) {
    const handle = await takePartial(partial, file, options);
    if (!handle) return options.progress(file.bytes);
    try {
      await receive(api, handle, file, { ...options, progress });
      await putInPlace(handle, partial, { repo: api.repo, file });
      if (existsSync(file.path)) return;
    } catch (error) {
      // Says that nobody is at work on it.
      await handle.utimes(0, 0).catch(() => {});
      options.signal.throwIfAborted();
      if (error instanceof HubError) {
        // What an earlier process left may have been the damage.
        if (damaged) {
          await rm(partial, { force: true });
          throw error;
        }
        damaged = true;
        continue;
      }
      if (!isPassing(error) && !(error instanceof HubRefusal && error.status === 416)) throw error;
      failures++;
      if (failures >= attempts) {
        throw new HubError(`${api.repo}: fetching ${file.name} failed ${attempts} times in a row: ${reasonOf(error)}`, {
          hint: 'run the command again: what came so far is kept and gone on with',
          cause: error,
        });
      }
      await sleep(firstPauseMs * 2 ** (failures - 1), undefined, { signal: options.signal });
    } finally {
      await handle.close();
    }
  }
}
