import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

const lfsBytes = 1024;

/** The checksums by which the hub names a content. */
export const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex');
export const gitOid = (content: Buffer): string => createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');

/** A model as the server has it: its files at each commit, and the branches and tags that name commits. */
export interface ServedModel {
  readonly commits: Record<string, Record<string, Buffer>>;
  readonly refs: Record<string, string>;
  /** Only for this token; the hub calls it gated or hides it. */
  readonly token?: string;
  readonly gated?: boolean;
}

/** What goes wrong with the next answers that carry a large file's content. */
export interface Fault {
  /** The connection is cut behind so many bytes of the answer. */
  readonly cutAfter?: number;
  /** Nothing more comes behind so many bytes. */
  readonly stallAfter?: number;
  /** One byte is another. */
  readonly damaged?: true;
  readonly status?: number;
}

/** A small hub on this machine: revisions, trees in pages, and files that redirect to a second server as large files do. */
export class HubServer implements AsyncDisposable {
  readonly models: Record<string, ServedModel> = {};
  /** Every request, as "GET /path" and, of contents, the range. */
  readonly requests: string[] = [];
  readonly authorizations: (string | undefined)[] = [];
  readonly faults: Fault[] = [];
  ignoresRange = false;
  /** Answers every API request with this status. */
  down: number | undefined;
  #hub: Server = createServer((request, response) => this.#answer(request, response));
  #store: Server = createServer((request, response) => this.#content(request, response));

  static async start(): Promise<HubServer> {
    const server = new HubServer();
    for (const one of [server.#hub, server.#store]) await once(one.listen(0, '127.0.0.1'), 'listening');
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  /** What was asked since the last call. */
  taken(): string[] {
    return this.requests.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of [this.#hub, this.#store]) {
      one.closeAllConnections();
      one.close();
      await once(one, 'close').catch(() => {});
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://hub');
    this.requests.push(`${request.method} ${decodeURIComponent(pathname)}`);
    this.authorizations.push(request.headers.authorization);
    const refuse = (status: number, code: string, message = ''): void => {
      response.writeHead(status, { 'x-error-code': code, 'x-error-message': message, 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: message }));
    };
    if (this.down !== undefined) return refuse(this.down, '');
    const found =
      /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(pathname) ??
      /^\/([^/]+\/[^/]+)\/(resolve)\/([^/]+)\/(.+)$/.exec(pathname);
    const [, repo = '', what, revision = '', path = ''] = (found ?? []).map((part) => decodeURIComponent(part));
    const model = this.models[repo];
    // As on the hub: who is nobody learns of no private model.
    if (!model) return refuse(request.headers.authorization ? 404 : 401, 'RepoNotFound', 'Repository not found');
    if (model.token !== undefined && request.headers.authorization !== `Bearer ${model.token}`) {
      if (model.gated) return refuse(request.headers.authorization ? 403 : 401, 'GatedRepo', 'Access to this model is restricted');
      return refuse(401, request.headers.authorization ? '' : 'RepoNotFound', 'Invalid credentials in Authorization header');
    }
    const commit = model.refs[revision] ?? revision;
    const files = model.commits[commit];
    if (!files) return refuse(404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    const json = (value: unknown, headers = {}): void => {
      response.writeHead(200, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(value));
    };
    if (what === 'revision') {
      const siblings = Object.keys(files).map((rfilename) => ({ rfilename }));
      const facts = { private: false, gated: false, downloads: 1, likes: 1, lastModified: '2026-01-01T00:00:00.000Z', tags: [] };
      return json({ _id: '1', id: repo, sha: commit, siblings, ...facts });
    }
    if (what === 'tree') return this.#tree(files, { pathname, from: Number(searchParams.get('cursor') ?? 0), json });
    const content = files[path];
    if (!content) return refuse(404, 'EntryNotFound', 'Entry not found');
    if (content.length < lfsBytes) {
      response.writeHead(200, { etag: `"${gitOid(content)}"`, 'x-repo-commit': commit, 'content-length': content.length });
      response.end(request.method === 'HEAD' ? undefined : content);
      return undefined;
    }
    const location = `http://127.0.0.1:${(this.#store.address() as AddressInfo).port}/${sha256(content)}`;
    const linked = { 'x-linked-etag': `"${sha256(content)}"`, 'x-linked-size': content.length };
    response.writeHead(302, { location, ...linked, etag: `"${gitOid(content)}"`, 'x-repo-commit': commit });
    return response.end();
  }

  #tree(
    files: Record<string, Buffer>,
    { pathname, from, json }: { pathname: string; from: number; json: (value: unknown, headers?: object) => void },
  ): void {
    const entries = Object.entries(files).map(([path, content]) => {
      const lfs = content.length < lfsBytes ? {} : { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } };
      return { type: 'file', path, size: content.length, oid: gitOid(content), ...lfs };
    });
    const until = from + 3;
    const next = `<${this.endpoint}${pathname}?recursive=true&expand=false&cursor=${until}>; rel="next"`;
    json(entries.slice(from, until), until < entries.length ? { link: next } : {});
  }

  #content(request: IncomingMessage, response: ServerResponse): void {
    const checksum = request.url?.slice(1) ?? '';
    const { range } = request.headers;
    this.requests.push(`${request.method} content ${checksum.slice(0, 4)}${range === undefined ? '' : ` ${range}`}`);
    this.authorizations.push(request.headers.authorization);
    const everything = Object.values(this.models).flatMap(({ commits }) => Object.values(commits).flatMap((files) => Object.values(files)));
    const content = everything.find((one) => sha256(one) === checksum);
    if (!content) return void response.writeHead(404).end();
    if (request.method === 'HEAD') return void response.writeHead(200, { 'content-length': content.length }).end();
    const fault = this.faults.shift() ?? {};
    if (fault.status !== undefined) return void response.writeHead(fault.status).end();
    const [, from = 0, last = content.length - 1] = (!this.ignoresRange && /^bytes=(\d+)-(\d+)?/.exec(range ?? '')) || [];
    const [start, end] = [Number(from), Math.min(Number(last) + 1, content.length)];
    const body = Buffer.from(content.subarray(start, end));
    if (fault.damaged) body.writeUInt8(body.readUInt8(0) ^ 1);
    const partial = body.length < content.length;
    const place = partial ? { 'content-range': `bytes ${start}-${end - 1}/${content.length}` } : {};
    response.writeHead(partial ? 206 : 200, { 'content-length': body.length, ...place });
    const limit = fault.cutAfter ?? fault.stallAfter;
    if (limit === undefined) return void response.end(body);
    response.write(body.subarray(0, limit), () => setTimeout(() => fault.cutAfter === undefined || response.destroy(), 20));
  }
}
