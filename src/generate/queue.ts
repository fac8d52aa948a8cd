import { setImmediate } from 'node:timers/promises';
import type { Batch, BatchRequest } from './batch.ts';
import type { Reply } from './reply.ts';

/** Steps a batch as long as it has requests, and lets the event loop turn in between. */
export class Queue {
  readonly #batch: Batch;
  readonly #replies = new Map<BatchRequest, Reply>();
  readonly #coming: () => Promise<void> | undefined;
  #running = false;

  /** While the batch has room, a step waits for what `coming` gives: a step takes long, and it blocks the event loop that would bring more requests. */
  constructor(batch: Batch, { coming = () => undefined }: { coming?: () => Promise<void> | undefined } = {}) {
    this.#batch = batch;
    this.#coming = coming;
  }

  /** Lines up a request; should a step fail, the error goes to the replies of all. */
  add(request: BatchRequest, reply: Reply): void {
    this.#replies.set(request, reply);
    this.#batch.add(request);
    if (!this.#running) void this.#run();
  }

  /** Drops a request; nothing happens when it is over. */
  remove(request: BatchRequest): void {
    this.#replies.delete(request);
    this.#batch.remove(request);
  }

  /** Drops all requests, whose replies get the reason, and what is remembered of finished ones. */
  clear(reason: unknown): void {
    this.#batch.clear();
    for (const reply of this.#replies.values()) reply.fail(reason);
    this.#replies.clear();
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      for (;;) {
        // First of all, so that requests made in one turn of the event loop share their first step.
        await setImmediate();
        for (let coming = this.#coming(); coming && this.#batch.size > 0 && this.#batch.vacant > 0; coming = this.#coming()) {
          await coming;
          await setImmediate();
        }
        if (this.#batch.size === 0) return;
        this.#batch.step();
      }
    } catch (reason) {
      this.clear(reason);
    } finally {
      this.#running = false;
    }
  }
}
