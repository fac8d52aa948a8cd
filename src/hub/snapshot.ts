import { existsSync } from 'node:fs';
import { mkdir, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError, isSystemError, TinyLlavaError } from '../errors.ts';
import { type Log, silent } from '../log.ts';
import type { HubApi } from './api.ts';
import type { CachedModel, RemoteFile } from './cache.ts';
import { download, type Wanted } from './download.ts';
import { Progress } from './progress.ts';
import { type Asked, diskFull, explainRefusal } from './refusals.ts';
import type { HubSettings } from './settings.ts';

/** Who fetches what, and where it goes. */
export interface Fetching {
  readonly asked: Asked;
  readonly settings: HubSettings;
  readonly api: HubApi;
  readonly model: CachedModel;
  readonly commit: string;
  readonly log?: Log | undefined;
  readonly signal?: AbortSignal | undefined;
}

const connections = 4;

const bytesAt = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );

/** How much is still to come, and how much room there is for it. */
async function space(files: readonly Wanted[], folder: string): Promise<{ needed: number; free: number }> {
  const { bavail, bsize } = await statfs(folder);
  let needed = 0;
  for (const { path, bytes } of files) needed += Math.max(0, bytes - (await bytesAt(`${path}.incomplete`)));
  return { needed, free: bavail * bsize };
}

/** What the operating system refuses, in the user's terms. */
async function explainDisk(error: unknown, files: readonly Wanted[], { asked, settings }: Fetching): Promise<unknown> {
  if (error instanceof TinyLlavaError || !(isSystemError(error) && 'code' in error)) return error;
  const { cacheFolder } = settings;
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT')
    return diskFull(asked, settings, { ...(await space(files, cacheFolder)), cause: error });
  return new HubError(`${asked.text}: the cache (${cacheFolder}) cannot be written: ${error.message}`, {
    hint: 'set HF_HOME to a folder that you may write to',
    cause: error,
  });
}

/** Runs `work` on every item, some at a time; the first failure stops all. */
async function each<Item>(
  items: readonly Item[],
  signal: AbortSignal | undefined,
  work: (item: Item, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const stop = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined && !stop.aborted; item = queue.shift()) await work(item, stop);
  };
  await Promise.all(Array.from({ length: connections }, () => worker().catch((error) => failed.abort(error))));
  stop.throwIfAborted();
}

/** Puts files of a commit into its snapshot, from the blobs or from the hub. Throws HubError or the signal's reason. */
export async function fetchFiles(names: readonly string[], files: ReadonlyMap<string, RemoteFile>, fetching: Fetching): Promise<void> {
  const { asked, settings, model, commit, log = silent, signal } = fetching;
  const found = names.map((name) => {
    const file = files.get(name);
    if (!file) throw new HubError(`${asked.text}: the hub (${settings.endpoint}) says nothing of the size and checksum of ${name}`);
    return { ...file, name, commit, path: model.blob(file) };
  });
  const wanted = found.filter(({ path }) => !existsSync(path));
  try {
    if (wanted.length > 0) await fetchBlobs(wanted, fetching, { log, signal });
    for (const file of found) await model.link(commit, file.name, file);
  } catch (error) {
    signal?.throwIfAborted();
    throw explainRefusal(await explainDisk(error, wanted, fetching), asked, settings);
  }
}

async function fetchBlobs(
  wanted: readonly Wanted[],
  { asked, settings, api }: Fetching,
  { log, signal }: { log: Log; signal: AbortSignal | undefined },
) {
  const { timeoutMs, cacheFolder } = settings;
  await mkdir(dirname((wanted[0] as Wanted).path), { recursive: true });
  const room = await space(wanted, cacheFolder);
  if (room.needed > room.free) throw diskFull(asked, settings, room);
  const progress = new Progress(
    log,
    asked.text,
    wanted.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  await each(wanted, signal, (file, stop) =>
    download(api, file, { signal: stop, timeoutMs, progress: (bytes) => progress.update(file.name, bytes) }),
  );
  progress.finish(wanted.length);
}
