import { cat } from '../tensor/create.ts';
import { attention, cachedAttention, type Scores } from '../tensor/functional.ts';
import { sizes } from '../tensor/sizes.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { KvCache } from './kv-cache.ts';

export type { Scores };

/**
 * How the N packed rows divide into sequences, one behind the other. With caches (one a sequence) the rows continue what each cache holds.
 */
export interface Sequences {
  readonly lengths: readonly number[];
  readonly caches?: readonly KvCache[] | undefined;
  /** int64 [K]: the rows that are wanted of the last layer, in their order, unless all are. */
  readonly wanted?: Tensor | undefined;
}

/** Those of packed rows [N, ...] that are wanted, [K, ...]: what is behind attention need not see others. */
export const wantedRows = (x: Tensor, { wanted }: Sequences): Tensor => (wanted ? x.indexSelect(0, wanted) : x);

/** The position of every packed row in its own sequence, [N]. */
export function positions({ lengths, caches }: Sequences): Float32Array {
  const result = new Float32Array(lengths.reduce((sum, length) => sum + length, 0));
  let row = 0;
  for (const [index, length] of lengths.entries()) {
    const seen = caches?.[index]?.length ?? 0;
    for (let i = 0; i < length; i++) result[row++] = seen + i;
  }
  return result;
}

/**
 * Grouped-query attention of packed sequences, each within itself, causal unless said otherwise. Dims: N rows, H query heads, G key/value heads, D head size.
 * `q` [N, H, D], `k` and `v` [N, G, D] to [N, H · D], or the wanted rows of it. `layer` is the index under which caches keep this layer's keys and values.
 */
export function packedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  sequences: Sequences,
  { layer, causal = true, ...scores }: Scores & { readonly layer: number; readonly causal?: boolean },
): Tensor {
  const { lengths, caches } = sequences;
  const attended = caches
    ? join(cachedParts([q, k, v], lengths, caches, { layer, ...scores }))
    : attention(q, k, v, { lengths, keyLengths: lengths, causal, ...scores }).flatten(1, 2);
  return wantedRows(attended, sequences);
}

function join(parts: readonly Tensor[]): Tensor {
  const [first] = parts;
  return first && parts.length === 1 ? first : cat(parts, 0);
}

/** Each sequence's rows over its own cache. */
function cachedParts(
  qkv: readonly Tensor[],
  lengths: readonly number[],
  caches: readonly KvCache[],
  options: Scores & { readonly layer: number },
): Tensor[] {
  let row = 0;
  return caches.flatMap((cache, index) => {
    const length = lengths[index] ?? 0;
    if (length === 0) return [];
    const [q, k, v] = qkv.map((x) => rows(x, row, length)) as [Tensor, Tensor, Tensor];
    row += length;
    return [overCache(q, k, v, cache, options)];
  });
}

/** New rows of one sequence over its cache and themselves. `q` [T, H, D], `k` and `v` [T, G, D] to [T, H · D]. */
function overCache(q: Tensor, k: Tensor, v: Tensor, cache: KvCache, { layer, ...scores }: Scores & { readonly layer: number }): Tensor {
  return cachedAttention(q, cache.append(layer, k, v), scores).flatten(1, 2);
}

/** Attention of equally long sequences. Dims as above, B sequences of T rows over S keys. `q` [B, T, H, D], `k` and `v` [B, S, G, D] to [B, T, H · D]. */
export function batchAttention(q: Tensor, k: Tensor, v: Tensor, options: Scores & { readonly causal: boolean }): Tensor {
  const [B, T, H, D] = sizes(q, 'B T H D');
  const [lengths, keyLengths] = [q, k].map((x) => new Array<number>(B).fill(x.size(1))) as [number[], number[]];
  const [qs, ks, vs] = [q, k, v].map((x) => x.flatten(0, 1)) as [Tensor, Tensor, Tensor];
  return attention(qs, ks, vs, { lengths, keyLengths, ...options }).view(B, T, H * D);
}

function rows(x: Tensor, start: number, length: number): Tensor {
  return start === 0 && length === x.size(0) ? x : x.narrow(0, start, length);
}
