import { arange, cat } from '../tensor/create.ts';
import { decodeAttention, scaledDotProductAttention } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { CachedLayer, KvCache } from './kv-cache.ts';

/**
 * How the N packed rows divide into sequences, one behind the other. With caches (one a sequence) the rows continue what each cache holds.
 */
export interface Sequences {
  readonly lengths: readonly number[];
  readonly caches?: readonly KvCache[] | undefined;
}

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

/** Neighbouring sequences of one length, which share a call. */
function runs(lengths: readonly number[]): { count: number; length: number }[] {
  const result: { count: number; length: number }[] = [];
  for (const length of lengths) {
    const last = result.at(-1);
    if (last?.length === length) last.count += 1;
    else if (length > 0) result.push({ count: 1, length });
  }
  return result;
}

/**
 * Causal grouped-query attention of packed sequences, each within itself. Dims: N rows, H query heads, G key/value heads, D head size.
 * `q` [N, H, D], `k` and `v` [N, G, D] to [N, H · D]. `layer` is the index under which caches keep this layer's keys and values.
 */
export function packedAttention(q: Tensor, k: Tensor, v: Tensor, { lengths, caches }: Sequences, { layer }: { layer: number }): Tensor {
  if (caches) return join(cachedParts([q, k, v], lengths, caches, layer));
  const groups = runs(lengths);
  const sizes = groups.map(({ count, length }) => count * length);
  // Not narrow, whose backward pass fills a gradient of all rows for every part.
  const [qs, ks, vs] = [q, k, v].map((x) => (sizes.length === 1 ? [x] : x.split(sizes))) as [Tensor[], Tensor[], Tensor[]];
  const parts = groups.map(({ count }, i) => {
    const [qi, ki, vi] = [qs[i], ks[i], vs[i]].map((x) => batched(x as Tensor, count)) as [Tensor, Tensor, Tensor];
    return batchAttention(qi, ki, vi, { causal: true }).flatten(0, 1);
  });
  return join(parts);
}

function join(parts: readonly Tensor[]): Tensor {
  const [first] = parts;
  return first && parts.length === 1 ? first : cat(parts, 0);
}

/** Each sequence's rows over its own cache. */
function cachedParts(qkv: readonly Tensor[], lengths: readonly number[], caches: readonly KvCache[], layer: number): Tensor[] {
  let row = 0;
  return caches.flatMap((cache, index) => {
    const length = lengths[index] ?? 0;
    if (length === 0) return [];
    const [q, k, v] = qkv.map((x) => rows(x, row, length)) as [Tensor, Tensor, Tensor];
    row += length;
    return [cachedAttention(q, k, v, cache, layer)];
  });
}

/** Attention of equally long sequences. Dims as above, B sequences of T. `q` [B, T, H, D], `k` and `v` [B, T, G, D] to [B, T, H · D]. */
export function batchAttention(q: Tensor, k: Tensor, v: Tensor, { causal }: { causal: boolean }): Tensor {
  const gqa = q.size(2) !== k.size(2);
  // A single row sees all there is, and the mask would only choose a slower kernel.
  const y = scaledDotProductAttention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), { causal: causal && q.size(1) > 1, gqa });
  return y.transpose(1, 2).flatten(2, 3);
}

/** New rows of one sequence over its cache and themselves. `q` [T, H, D], `k` and `v` [T, G, D] to [T, H · D]. */
function cachedAttention(q: Tensor, k: Tensor, v: Tensor, cache: KvCache, layer: number): Tensor {
  const [count, heads] = [q.size(0), q.size(1)];
  const seen = cache.length;
  const cached = cache.append(layer, k, v);
  if (count === 1) return decodeAttention(q.squeeze(0), cached.keys, cached.values, cached.length).view(1, -1);
  const [keys, values] = filled(cached);
  const options = seen === 0 ? { causal: true } : { mask: continuationMask(count, seen, q) };
  const y = scaledDotProductAttention(q.unsqueeze(0).transpose(1, 2), keys, values, { ...options, gqa: heads !== k.size(1) });
  return y.transpose(1, 2).flatten(2, 3).squeeze(0);
}

/** Keys and values so far, [1, G, S, D]. */
function filled({ keys, values, length }: CachedLayer): [keys: Tensor, values: Tensor] {
  return [keys.narrow(1, 0, length).unsqueeze(0), values.narrow(1, 0, length).unsqueeze(0)];
}

/** True where row t of the new ones may look: everything seen and the new ones up to itself. [T, S + T] */
function continuationMask(rows: number, seen: number, { device }: Tensor): Tensor {
  const at = arange(0, seen + rows, { dtype: 'int64', device });
  return at.unsqueeze(0).le(at.narrow(0, seen, rows).unsqueeze(1));
}

function rows(x: Tensor, start: number, length: number): Tensor {
  return start === 0 && length === x.size(0) ? x : x.narrow(0, start, length);
}

function batched(x: Tensor, count: number): Tensor {
  return x.view(count, x.size(0) / count, x.size(1), x.size(2));
}
