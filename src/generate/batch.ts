import type { TinyLlava } from '../model/tinyllava.ts';
import type { KvCache } from '../nn/kv-cache.ts';
import { noGrad } from '../tensor/autograd.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { ImageStore, PlacedImage } from './image-store.ts';
import { commonPrefix, type Shared } from './prefix.ts';
import type { Sampler } from './sample.ts';

/** One prompt to be continued. */
export interface BatchRequest {
  /** The prompt; an image is its placeholder repeated once for every embedding. */
  readonly ids: Int32Array;
  readonly images: readonly PlacedImage[];
  readonly sampler: Sampler;
  /** The most tokens that will follow; room is made for a part of them. */
  readonly maxNewTokens: number;
  /** Called when a slot is found, with how many tokens of the prompt had been computed for another. */
  begin(sharedTokens: number): void;
  /** Called with each token of the answer; false ends it. */
  take(id: number): boolean;
}

/** How much is computed at a time. */
export interface BatchOptions {
  /** Answers that grow together. */
  readonly slots?: number;
  /** Tokens of prompts in one forward pass, unless a single prompt is longer. */
  readonly promptTokens?: number;
  /** Finished prompts that are remembered, so that one which begins the same need not compute that part again. */
  readonly remembered?: number;
}

/** A request in a slot. What the cache does not hold of `ids` is fed at the next step: first the prompt, then token by token. */
interface Live {
  readonly request: BatchRequest;
  readonly cache: KvCache;
  readonly ids: number[];
  readonly images: readonly PlacedImage[];
  /** How many of the images the cache holds. */
  imagesFed: number;
}

/** A shorter beginning is computed as fast as it is copied. */
const leastShared = 32;

/**
 * Answers many requests at once: each step is one forward pass over whatever every slot has to feed, a whole prompt or one token, packed
 * without padding. A finished request leaves its slot to the next that waits. A prompt that begins as another one takes that part from the
 * other's cache. Answers do not depend on what else is in the batch.
 */
export class Batch {
  readonly #model: TinyLlava;
  readonly #images: ImageStore;
  readonly #slots: number;
  readonly #promptTokens: number;
  readonly #remembered: number;
  #waiting: BatchRequest[] = [];
  #live: Live[] = [];
  readonly #finished: Live[] = [];

  constructor(model: TinyLlava, images: ImageStore, { slots = 8, promptTokens = 4096, remembered = 0 }: BatchOptions = {}) {
    this.#model = model;
    this.#images = images;
    this.#slots = slots;
    this.#promptTokens = promptTokens;
    this.#remembered = remembered;
  }

  /** Requests that wait or have a slot. */
  get size(): number {
    return this.#waiting.length + this.#live.length;
  }

  /** Slots that nobody has and nobody waits for. */
  get vacant(): number {
    return Math.max(0, this.#slots - this.size);
  }

  /** Lines up a request. */
  add(request: BatchRequest): void {
    this.#waiting.push(request);
  }

  /** Drops a request wherever it is; nothing happens when it is over. */
  remove(request: BatchRequest): void {
    this.#waiting = this.#waiting.filter((other) => other !== request);
    this.#live = this.#live.filter((live) => {
      if (live.request === request) live.cache.free();
      return live.request !== request;
    });
  }

  /** Drops all requests and what is remembered. */
  clear(): void {
    this.#waiting = [];
    for (const { cache } of [...this.#live.splice(0), ...this.#finished.splice(0)]) cache.free();
  }

  /** Fills free slots and gives every request in a slot its next token. */
  step(): void {
    if (this.#waiting.length > 0 && this.#live.length < this.#slots) this.#admit();
    this.#forget();
    if (this.#live.length === 0) return;
    const chosen = noGrad(() => this.#forward(this.#live));
    this.#live = this.#live.filter((live, i) => {
      const id = chosen[i] ?? 0;
      live.ids.push(id);
      const goesOn = live.request.take(id);
      if (!goesOn) this.#finished.push(live);
      return goesOn;
    });
    // What has just been finished may be what a request that waits begins with.
    if (this.#waiting.length === 0) this.#forget();
  }

  #forget(): void {
    for (const { cache } of this.#finished.splice(0, Math.max(0, this.#finished.length - this.#remembered))) cache.free();
  }

  #admit(): void {
    const newcomers: Live[] = [];
    const sources = [...this.#live, ...this.#finished];
    let tokens = 0;
    let followers = 0;
    for (const request of this.#waiting) {
      if (this.#live.length + newcomers.length + followers === this.#slots) break;
      const { shared, source } = this.#longest(request, sources, (other) => other.cache.length);
      // What a newcomer is about to compute can be had at the next step: a slot is kept for it, because later the newcomer may be gone.
      const coming = this.#longest(request, newcomers, (other) => other.ids.length);
      if (coming.shared.tokens > shared.tokens) {
        followers += 1;
        continue;
      }
      tokens += request.ids.length - shared.tokens;
      if (tokens > this.#promptTokens && newcomers.length > 0) break;
      newcomers.push(this.#begin(request, shared, source));
    }
    const admitted = new Set(newcomers.map(({ request }) => request));
    this.#waiting = this.#waiting.filter((request) => !admitted.has(request));
    this.#live.push(...newcomers);
  }

  /** The longest beginning that a request shares with what others have computed, if it is long enough, and with which of them. */
  #longest(request: BatchRequest, others: readonly Live[], computed: (other: Live) => number): { shared: Shared; source?: Live } {
    let best: { shared: Shared; source?: Live } = { shared: { tokens: 0, images: 0 } };
    for (const source of others) {
      // At least one token is left to feed, because the answer begins with what follows it.
      const limit = Math.min(computed(source), request.ids.length - 1);
      const shared = commonPrefix(source, request, limit);
      const right = [computed(source), shared.tokens].every((length) => this.#model.languageModel.cacheServes(length, request.ids.length));
      if (right && shared.tokens >= leastShared && shared.tokens > best.shared.tokens) best = { shared, source };
    }
    return best;
  }

  #begin(request: BatchRequest, { tokens, images }: Shared, source: Live | undefined): Live {
    const capacity = request.ids.length + Math.min(request.maxNewTokens, 128);
    const cache = source?.cache.fork({ capacity }) ?? this.#model.languageModel.createCache({ capacity });
    cache.truncate(tokens);
    request.begin(tokens);
    return { request, cache, ids: Array.from(request.ids), images: request.images, imagesFed: images };
  }

  /** The next token of each. */
  #forward(batch: readonly Live[]): number[] {
    using _scope = new Scope();
    for (const live of batch) {
      if (live.cache.length === 0 || this.#model.languageModel.cacheServes(live.cache.length, live.ids.length)) continue;
      live.cache.truncate(0);
      live.imagesFed = 0;
    }
    const pending = batch.map(({ ids, cache }) => ids.slice(cache.length));
    const lengths = pending.map(({ length }) => length);
    const hidden = this.#model.hidden({
      ids: Int32Array.from(pending.flat()),
      lengths,
      imageFeatures: this.#images.features(batch.flatMap(({ images, imagesFed }) => images.slice(imagesFed).map(({ image }) => image))),
      caches: batch.map(({ cache }) => cache),
      wanted: lengths.every((length) => length === 1) ? undefined : lastRows(lengths),
    });
    for (const live of batch) live.imagesFed = live.images.length;
    return this.#choose(this.#model.logits(hidden), batch);
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
function lastRows(lengths: readonly number[]): number[] {
  let end = 0;
  return lengths.map((length) => {
    end += length;
    return end - 1;
  });
}
