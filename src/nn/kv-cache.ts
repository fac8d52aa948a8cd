import { noGrad } from '../tensor/autograd.ts';
import { empty } from '../tensor/create.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import { append_, type CachedRows } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** What a cache must hold; `capacity` is the first room in tokens, it doubles when full. */
export interface KvCacheShape {
  readonly layers: number;
  /** Key/value heads, of every layer or layer by layer. */
  readonly kvHeads: number | readonly number[];
  readonly headSize: number;
  readonly dtype?: DType;
  readonly device?: Device;
  readonly capacity?: number;
}

interface KeysAndValues {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Keys and values of one sequence for all layers, written in place, for inference only: no gradient flows through it.
 * Dims: G key/value heads, S tokens seen, T new tokens, D head size. Freed by `free`, never by a scope.
 */
export class KvCache {
  readonly #shape: Required<KvCacheShape>;
  readonly #layers: (KeysAndValues | undefined)[];
  #capacity: number;
  #length = 0;

  constructor(shape: KvCacheShape) {
    this.#shape = { dtype: 'float32', device: 'cpu', capacity: 64, ...shape };
    this.#layers = new Array<undefined>(shape.layers).fill(undefined);
    this.#capacity = this.#shape.capacity;
  }

  /** Tokens whose keys and values every layer holds. */
  get length(): number {
    return this.#length;
  }

  #allocate(layer: number): KeysAndValues {
    const { kvHeads, headSize, dtype, device } = this.#shape;
    const heads = typeof kvHeads === 'number' ? kvHeads : (kvHeads[layer] ?? 0);
    const make = (): Tensor => Scope.release(empty([heads, this.#capacity, headSize], { dtype, device }));
    return { keys: make(), values: make() };
  }

  /** Room for `tokens` in every layer. */
  reserve(tokens: number): void {
    if (tokens <= this.#capacity) return;
    while (this.#capacity < tokens) this.#capacity *= 2;
    for (const [index, old] of this.#layers.entries()) {
      if (!old) continue;
      const grown = this.#allocate(index);
      copyTokens(old, grown, this.#length);
      old.keys.free();
      old.values.free();
      this.#layers[index] = grown;
    }
  }

  /** Writes `keys` and `values` [T, G, D] of one layer behind the tokens seen; `advance` counts them once all layers have theirs. */
  append(layer: number, keys: Tensor, values: Tensor): CachedRows {
    const count = keys.size(0);
    const total = this.#length + count;
    this.reserve(total);
    const room = this.#layers[layer] ?? this.#allocate(layer);
    this.#layers[layer] = room;
    append_(room, keys, values, this.#length);
    return { ...room, length: total };
  }

  /** Counts `tokens` as seen, once all layers have appended them. */
  advance(tokens: number): void {
    this.#length += tokens;
  }

  /** Forgets everything after the first `tokens`. */
  truncate(tokens: number): void {
    this.#length = Math.min(this.#length, tokens);
  }

  /** An independent cache that starts with the same tokens, for many questions behind one prefix. */
  fork({ capacity = this.#capacity }: { capacity?: number } = {}): KvCache {
    const copy = new KvCache({ ...this.#shape, capacity: Math.max(capacity, this.#length, 1) });
    for (const [index, room] of this.#layers.entries()) {
      if (!room) continue;
      const fresh = copy.#allocate(index);
      copyTokens(room, fresh, this.#length);
      copy.#layers[index] = fresh;
    }
    copy.#length = this.#length;
    return copy;
  }

  /** Gives the memory back; the cache is empty afterwards. */
  free(): void {
    for (const room of this.#layers) {
      room?.keys.free();
      room?.values.free();
    }
    this.#layers.fill(undefined);
    this.#length = 0;
  }
}

function copyTokens(from: KeysAndValues, to: KeysAndValues, tokens: number): void {
  if (tokens === 0) return;
  // The views hold the caches' memory, and a fork is made outside all scopes.
  using _scope = new Scope();
  noGrad(() => {
    to.keys.narrow(1, 0, tokens).copy_(from.keys.narrow(1, 0, tokens));
    to.values.narrow(1, 0, tokens).copy_(from.values.narrow(1, 0, tokens));
  });
}
