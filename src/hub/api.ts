import { HubError, TinyLlavaError } from '../errors.ts';
import { version } from '../version.ts';
import { isCommit, type RemoteFile } from './cache.ts';
import type { HubSettings } from './settings.ts';

/** What the hub said instead of an answer; `code` is its X-Error-Code. */
export class HubRefusal extends Error {
  override readonly name = 'HubRefusal';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, text: string) {
    super(`${status}${text === '' ? '' : ` ${text}`}`);
    this.status = status;
    this.code = code;
  }

  /** Whether asking again may help. */
  get passing(): boolean {
    return this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** Whether an error is one of the connection or of a hub that is not at work, and so may pass. */
export function isPassing(error: unknown): boolean {
  if (error instanceof HubRefusal) return error.passing;
  if (error instanceof TinyLlavaError || !(error instanceof Error)) return false;
  // A cut or refused connection is a TypeError of fetch with the reason as its cause; a file system's errors name their system call.
  return error instanceof TypeError || error.name === 'TimeoutError' || /^(UND_ERR|ECONN|EPIPE|ETIMEDOUT)/.test(codeOf(error));
}

const codeOf = (error: Error): string => ('code' in error ? String(error.code) : '');

/** Why a connection failed, in a few words. */
export function reasonOf(error: unknown): string {
  if (error instanceof HubRefusal) return `the hub answers ${error.message}`;
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? error.cause : error;
  // A host of several addresses fails with one error for each.
  const inner = cause instanceof AggregateError ? (cause.errors[0] ?? cause) : cause;
  return inner.message || codeOf(inner) || inner.name;
}

/** Requests to the hub about one repository. */
export class HubApi {
  readonly repo: string;
  readonly #settings: HubSettings;
  readonly #signal: AbortSignal | undefined;

  constructor(repo: string, settings: HubSettings, signal?: AbortSignal) {
    this.repo = repo;
    this.#settings = settings;
    this.#signal = signal;
  }

  /** `fetch` that gives answers alone. Throws HubRefusal, or what `fetch` does. */
  readonly fetch = async (input: Parameters<typeof fetch>[0], { headers, signal, ...init }: RequestInit = {}): Promise<Response> => {
    const { token, timeoutMs } = this.#settings;
    const sent = new Headers(headers);
    sent.set('user-agent', `tinyllava/${version}`);
    if (token !== undefined) sent.set('authorization', `Bearer ${token}`);
    const limit = AbortSignal.any([signal, this.#signal].filter((one) => one !== undefined && one !== null));
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(new DOMException(`no answer in ${timeoutMs / 1000} s`, 'TimeoutError')), timeoutMs);
    try {
      const response = await this.#settings.fetch(input, { ...init, headers: sent, signal: AbortSignal.any([limit, timeout.signal]) });
      if (response.ok) return response;
      const text = response.headers.get('x-error-message') ?? '';
      await response.body?.cancel();
      throw new HubRefusal(response.status, response.headers.get('x-error-code') ?? '', text);
    } finally {
      clearTimeout(timer);
    }
  };

  /** The commit that a revision is now, and the names of its files. */
  async revision(revision: string): Promise<{ commit: string; names: string[] }> {
    const { modelInfo } = await import('@huggingface/hub');
    const info = await modelInfo({ ...this.#access, name: this.repo, revision, additionalFields: ['sha', 'filePaths'] });
    if (!isCommit(info.sha)) throw new HubError(`${this.repo}: the hub at ${this.#settings.endpoint} gives no commit for "${revision}"`);
    return { commit: info.sha, names: info.filePaths.filter((name) => !name.split('/').includes('..')) };
  }

  /** Sizes and checksums of all files of a commit. */
  async files(commit: string): Promise<Map<string, RemoteFile>> {
    const { listFiles } = await import('@huggingface/hub');
    const files = new Map<string, RemoteFile>();
    for await (const { type, path, size, oid, lfs } of listFiles({ ...this.#access, repo: this.repo, revision: commit, recursive: true })) {
      const checksum = lfs?.oid ?? oid ?? '';
      if (type === 'file' && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(checksum)) files.set(path, { bytes: lfs?.size ?? size, checksum });
    }
    return files;
  }

  /** The content of a file from byte `from` on, to the byte before `until`; the answer's status says whether it is that (206) or all of it. */
  content(
    commit: string,
    name: string,
    { from, until, signal }: { from: number; until?: number | undefined; signal: AbortSignal },
  ): Promise<Response> {
    const path = name.split('/').map(encodeURIComponent).join('/');
    // Compressed answers have other sizes and ranges than the file.
    const range = from > 0 || until !== undefined ? { range: `bytes=${from}-${until === undefined ? '' : until - 1}` } : {};
    const headers = { 'accept-encoding': 'identity', ...range };
    return this.fetch(`${this.#settings.endpoint}/${this.repo}/resolve/${commit}/${path}`, { headers, signal });
  }

  get #access() {
    return { hubUrl: this.#settings.endpoint, fetch: this.fetch };
  }
}
