import type { Log } from '../log.ts';

/** What is reported of a model that comes from the hub: how far its download is, its end, and that the cache had to do. */
export type HubEvent =
  | {
      readonly event: 'downloading';
      readonly model: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
      /** Mean over this download; what an earlier one left does not count. */
      readonly bytesPerSecond: number;
    }
  | { readonly event: 'downloaded'; readonly model: string; readonly files: number; readonly totalBytes: number; readonly seconds: number }
  | { readonly event: 'hub-unreachable'; readonly model: string; readonly commit: string; readonly reason: string };

const intervalMs = 100;

/** Adds up the bytes of files that come at once, and reports them now and then. */
export class Progress {
  readonly #log: Log;
  readonly #model: string;
  readonly #totalBytes: number;
  readonly #bytes = new Map<string, number>();
  readonly #startMs = performance.now();
  #foundBytes = 0;
  #reportedMs = 0;

  constructor(log: Log, model: string, totalBytes: number) {
    this.#log = log;
    this.#model = model;
    this.#totalBytes = totalBytes;
  }

  /** How many bytes of a file are there; what is said of it first was there before. */
  update(file: string, bytes: number): void {
    if (!this.#bytes.has(file)) this.#foundBytes += bytes;
    this.#bytes.set(file, bytes);
    const nowMs = performance.now();
    if (nowMs - this.#reportedMs < intervalMs) return;
    this.#reportedMs = nowMs;
    let doneBytes = 0;
    for (const count of this.#bytes.values()) doneBytes += count;
    const bytesPerSecond = Math.max(0, doneBytes - this.#foundBytes) / Math.max(1e-3, this.#seconds);
    this.#report({ event: 'downloading', model: this.#model, doneBytes, totalBytes: this.#totalBytes, bytesPerSecond });
  }

  finish(files: number): void {
    this.#report({ event: 'downloaded', model: this.#model, files, totalBytes: this.#totalBytes, seconds: this.#seconds });
  }

  get #seconds(): number {
    return (performance.now() - this.#startMs) / 1000;
  }

  #report(event: HubEvent): void {
    this.#log(event);
  }
}
