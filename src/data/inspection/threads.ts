import type { Worker } from 'node:worker_threads';
import { TinyLlavaError } from '../../errors.ts';
import { receivedError, startThread } from '../../thread.ts';
import type { FileFacts, FileLook } from './images.ts';
import type { Looker, LookSettings } from './looker.ts';
import type { RowFacts } from './rows.ts';
import type { Found, Job } from './worker.ts';

/** Who looks at rows and files. */
export type Eyes = Pick<Looker, 'rows' | 'files'>;

/** A thread that looks, at one thing at a time. */
export class LookingThread implements Eyes {
  readonly #worker: Worker;
  #waiting: { resolve(found: RowFacts[] | FileFacts[]): void; reject(error: Error): void } | undefined;
  #ended: Error | undefined;

  constructor(settings: LookSettings) {
    this.#worker = startThread(import.meta.url, 'worker', settings);
    this.#worker.on('message', (answer: Found) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if ('found' in answer) waiting?.resolve(answer.found);
      else waiting?.reject(receivedError(answer.failed));
    });
    this.#worker.on('error', (cause) =>
      this.#end(new TinyLlavaError(`a thread that inspects failed: ${(cause as Error).message}`, { cause })),
    );
    this.#worker.on('exit', () =>
      this.#end(new TinyLlavaError('a thread that inspects ended', { hint: 'it may have run out of memory; try fewer threads' })),
    );
  }

  rows(from: number, to: number): Promise<RowFacts[]> {
    return this.#ask({ from, to }) as Promise<RowFacts[]>;
  }

  files(files: readonly FileLook[]): Promise<FileFacts[]> {
    return this.#ask({ files }) as Promise<FileFacts[]>;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(job: Job): Promise<RowFacts[] | FileFacts[]> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      this.#waiting = { resolve, reject };
      this.#worker.postMessage(job);
    });
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }
}

/** How numbers are parted. */
export interface Parting {
  readonly count: number;
  /** Numbers that are looked at together, more or less. */
  readonly size: number;
  /** Where the part ends that begins at `from`, behind `size` of them unless given. */
  readonly end?: (from: number) => number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Runs `look` on the parts of all numbers below `count`, each part on whichever eyes are free, and hands what they find to `take` in order. Those
 * that are ahead wait for the slowest, so that little is kept. Throws what a look or `take` throws, and what aborted `signal`.
 */
export async function inOrder<Seen>(
  eyes: readonly Eyes[],
  { count, size, end = (from) => from + size, signal }: Parting,
  { look, take }: { look: (eyes: Eyes, from: number, to: number) => Promise<Seen>; take: (found: Seen, from: number) => void },
): Promise<void> {
  const ready = new Map<number, { found: Seen; to: number }>();
  const ahead = 4 * eyes.length * size;
  let [next, taken] = [0, 0];
  const wake: (() => void)[] = [];
  let failed = false;
  const lane = async (one: Eyes): Promise<void> => {
    for (;;) {
      while (next - taken > ahead && !failed) await new Promise<void>((resolve) => wake.push(resolve));
      // lets an interruption in, and progress out
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      if (next >= count || failed) return;
      const from = next;
      const to = Math.min(count, end(from));
      next = to;
      ready.set(from, { found: await look(one, from, to), to });
      for (let seen = ready.get(taken); seen !== undefined; seen = ready.get(taken)) {
        ready.delete(taken);
        take(seen.found, taken);
        taken = seen.to;
      }
      for (const resolve of wake.splice(0)) resolve();
    }
  };
  const fail = (error: unknown): never => {
    failed = true;
    for (const resolve of wake.splice(0)) resolve();
    throw error;
  };
  await Promise.all(eyes.map((one) => lane(one).catch(fail)));
}
