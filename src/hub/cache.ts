import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';

/** A file of a repository: its size, and the checksum of its content, by which the cache names it. */
export interface RemoteFile {
  readonly bytes: number;
  /** SHA-256 of a large file, else git's SHA-1 of a blob. */
  readonly checksum: string;
}

/** Whether a revision is a whole commit hash, behind which nothing ever changes. */
export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

async function replace(path: string, make: (draft: string) => Promise<void>): Promise<void> {
  const draft = `${path}.${process.pid}.part`;
  await mkdir(dirname(path), { recursive: true });
  try {
    await make(draft);
    await rename(draft, path);
  } catch (cause) {
    await rm(draft, { force: true });
    throw cause;
  }
}

/**
 * One model in the cache folder that Python's huggingface_hub and this package share: `blobs/` holds contents by checksum, `refs/` the
 * commit of each branch and tag, `snapshots/` the files of each commit as links (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
 */
export class CachedModel {
  readonly folder: string;

  constructor(cacheFolder: string, repo: string) {
    this.folder = join(cacheFolder, `models--${repo.replace('/', '--')}`);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  blob({ checksum }: RemoteFile): string {
    return join(this.folder, 'blobs', checksum);
  }

  has(commit: string, file: string): boolean {
    return existsSync(join(this.snapshot(commit), file));
  }

  /** The commit that a revision was when it was last asked for. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await readFile(join(this.folder, 'refs', revision), 'utf8').catch(() => '');
    return text.trim() || undefined;
  }

  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return;
    await replace(join(this.folder, 'refs', revision), (draft) => writeFile(draft, commit));
  }

  /** The names of all files of a commit, where Python kept the list. */
  async names(commit: string): Promise<string[] | undefined> {
    try {
      const { format_version: version, files } = JSON.parse(await readFile(join(this.folder, 'trees', `${commit}.json`), 'utf8'));
      return version === 1 ? Object.keys(files) : undefined;
    } catch {
      return undefined;
    }
  }

  /** Makes a file that the blobs hold a part of a commit's snapshot. */
  async link(commit: string, name: string, file: RemoteFile): Promise<void> {
    const path = join(this.snapshot(commit), name);
    await replace(path, (draft) => symlink(relative(dirname(path), this.blob(file)), draft));
  }
}
