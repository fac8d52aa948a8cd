import type { TinyLlava } from '../model/tinyllava.ts';
import type { KvCache } from '../nn/kv-cache.ts';
import { noGrad } from '../tensor/autograd.ts';
import { indices } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { ImageStore, StoredImage } from './image-store.ts';
import type { Sampler } from './sample.ts';

/** One prompt to be continued. */
export interface BatchRequest {
  /** The prompt; an image is its placeholder repeated once for every embedding. */
  readonly ids: Int32Array;
  readonly images: readonly StoredImage[];
  readonly sampler: Sampler;
  /** The most tokens that will follow; room is made for a part of them. */
  readonly maxNewTokens: number;
  /** Called with each token of the answer; false ends it. */
  take(id: number): boolean;
}

/** How much is computed at a time. */
export interface BatchOptions {
  /** Answers that grow together. */
  readonly slots?: number;
  /** Tokens of prompts in one forward pass, unless a single prompt is longer. */
  readonly promptTokens?: number;
}

/** A request in a slot. What the cache does not hold of `ids` is fed at the next step: first the prompt, then token by token. */
interface Live {
  readonly request: BatchRequest;
  readonly cache: KvCache;
  readonly ids: number[];
}

/**
 * Answers many requests at once: each step is one forward pass over whatever every slot has to feed, a whole prompt or one token, packed
 * without padding. A finished request leaves its slot to the next that waits. Answers do not depend on what else is in the batch.
 */
export class Batch {
  readonly #model: TinyLlava;
  readonly #images: ImageStore;
  readonly #slots: number;
  readonly #promptTokens: number;
  readonly #waiting: BatchRequest[] = [];
  #live: Live[] = [];

  constructor(model: TinyLlava, images: ImageStore, { slots = 8, promptTokens = 4096 }: BatchOptions = {}) {
    this.#model = model;
    this.#images = images;
    this.#slots = slots;
    this.#promptTokens = promptTokens;
  }

  /** Requests that wait or have a slot. */
  get size(): number {
    return this.#waiting.length + this.#live.length;
  }

  /** Lines up a request. */
  add(request: BatchRequest): void {
    this.#waiting.push(request);
  }

  /** Drops a request wherever it is; nothing happens when it is over. */
  remove(request: BatchRequest): void {
    const place = this.#waiting.indexOf(request);
    if (place >= 0) this.#waiting.splice(place, 1);
    this.#leave((live) => live.request === request);
  }

  /** Drops all requests. */
  clear(): void {
    this.#waiting.length = 0;
    this.#leave(() => true);
  }

  /** Fills free slots and gives every request in a slot its next token. */
  step(): void {
    this.#admit();
    if (this.#live.length === 0) return;
    const chosen = noGrad(() => this.#forward(this.#live));
    const finished = new Set<Live>();
    for (const [i, live] of this.#live.entries()) {
      const id = chosen[i] ?? 0;
      live.ids.push(id);
      if (!live.request.take(id)) finished.add(live);
    }
    if (finished.size > 0) this.#leave((live) => finished.has(live));
  }

  #leave(leaves: (live: Live) => boolean): void {
    const staying: Live[] = [];
    for (const live of this.#live) {
      if (leaves(live)) live.cache.free();
      else staying.push(live);
    }
    this.#live = staying;
  }

  #admit(): void {
    let tokens = 0;
    while (this.#live.length < this.#slots) {
      const [request] = this.#waiting;
      if (!request) return;
      tokens += request.ids.length;
      if (tokens > this.#promptTokens && tokens > request.ids.length) return;
      this.#waiting.shift();
      const capacity = request.ids.length + Math.min(request.maxNewTokens, 128);
      this.#live.push({ request, cache: this.#model.languageModel.createCache({ capacity }), ids: Array.from(request.ids) });
    }
  }

  /** The next token of each. */
  #forward(batch: readonly Live[]): number[] {
    using _scope = new Scope();
    const pending = batch.map(({ ids, cache }) => (ids.length - cache.length === 1 ? ids.slice(-1) : ids.slice(cache.length)));
    const fresh = batch.filter(({ cache }) => cache.length === 0);
    const lengths = pending.map(({ length }) => length);
    const hidden = this.#model.hidden({
      ids: Int32Array.from(pending.flat()),
      lengths,
      imageFeatures: this.#images.features(fresh.flatMap(({ request }) => request.images)),
      caches: batch.map(({ cache }) => cache),
    });
    return this.#choose(this.#model.logits(fresh.length === 0 ? hidden : lastRows(hidden, lengths)), batch);
  }

  #choose(logits: Tensor, batch: readonly Live[]): number[] {
    const { imageTokenId } = this.#model.config;
    // Images stand in prompts only; as an answer the placeholder would be an image that is not there.
    if (imageTokenId !== undefined && imageTokenId < logits.size(1)) logits.select(1, imageTokenId).fill_(Number.NEGATIVE_INFINITY);
    if (batch.every(({ request }) => request.sampler.isArgmax)) return Array.from(logits.argmax(1).toArray() as BigInt64Array, Number);
    const rows = logits.to({ device: 'cpu' }).unbind(0);
    return batch.map(({ request, ids }, i) => (rows[i] ? request.sampler.choose(rows[i], ids) : 0));
  }
}

/** The last row of each of the packed sequences. */
function lastRows(hidden: Tensor, lengths: readonly number[]): Tensor {
  let end = 0;
  const rows = lengths.map((length) => {
    end += length;
    return end - 1;
  });
  return hidden.indexSelect(0, indices(rows).to({ device: hidden.device }));
}
