import { arange, cat } from '../tensor/create.ts';
import { type AttentionOptions, decodeAttention, scaledDotProductAttention } from '../tensor/functional.ts';
import { sizes } from '../tensor/sizes.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { KvCache } from './kv-cache.ts';

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

/** How a row's scores are taken. */
export interface Scores {
  /** What q · k is multiplied by, 1/√D unless said otherwise. */
  readonly scale?: number | undefined;
  /** A causal row sees this many rows, itself the last of them; all before it unless said otherwise. */
  readonly window?: number | undefined;
  /** Scores s become softcap · tanh(s / softcap). Gemma Team 2024, arXiv:2408.00118. */
  readonly softcap?: number | undefined;
}

/**
 * Grouped-query attention of packed sequences, each within itself, causal unless said otherwise. Dims: N rows, H query heads, G key/value heads, D head size.
 * `q` [N, H, D], `k` and `v` [N, G, D] to [N, H · D]. `layer` is the index under which caches keep this layer's keys and values.
 */
export function packedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { lengths, caches }: Sequences,
  { layer, causal = true, ...scores }: Scores & { readonly layer: number; readonly causal?: boolean },
): Tensor {
  if (caches) return join(cachedParts([q, k, v], lengths, caches, { layer, ...scores }));
  const groups = runs(lengths);
  const sizes = groups.map(({ count, length }) => count * length);
  // Not narrow, whose backward pass fills a gradient of all rows for every part.
  const [qs, ks, vs] = [q, k, v].map((x) => (sizes.length === 1 ? [x] : x.split(sizes))) as [Tensor[], Tensor[], Tensor[]];
  const parts = groups.map(({ count }, i) => {
    const [qi, ki, vi] = [qs[i], ks[i], vs[i]].map((x) => batched(x as Tensor, count)) as [Tensor, Tensor, Tensor];
    return batchAttention(qi, ki, vi, { causal, ...scores }).flatten(0, 1);
  });
  return join(parts);
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
    return [cachedAttention(q, k, v, cache, options)];
  });
}

/** Attention of equally long sequences. Dims as above, B sequences of T. `q` [B, T, H, D], `k` and `v` [B, T, G, D] to [B, T, H · D]. */
export function batchAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { causal, window, ...scores }: Scores & { readonly causal: boolean },
): Tensor {
  const count = q.size(1);
  // A single row sees all there is, and the mask would only choose a slower kernel.
  const seen = !causal || count === 1 ? {} : window === undefined || count <= window ? { causal } : { mask: visible(count, 0, window, q) };
  const y = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), { ...seen, ...scores });
  return y.transpose(1, 2).flatten(2, 3);
}

/** New rows of one sequence over its cache and themselves. `q` [T, H, D], `k` and `v` [T, G, D] to [T, H · D]. */
function cachedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  cache: KvCache,
  { layer, window = Number.POSITIVE_INFINITY, ...scores }: Scores & { readonly layer: number },
): Tensor {
  const count = q.size(0);
  const seen = cache.length;
  const cached = cache.append(layer, k, v);
  // What lies before the first new row's window is seen by none.
  const from = Math.max(0, seen + 1 - window);
  const length = cached.length - from;
  const [keys, values] = [cached.keys, cached.values].map((x) => (from === 0 ? x : x.narrow(1, from, length))) as [Tensor, Tensor];
  if (count === 1 && scores.softcap === undefined) {
    return decodeAttention(q.squeeze(0), keys, values, length, scores.scale).view(1, -1);
  }
  const plain = seen === 0 && count <= window;
  const options = count === 1 ? {} : plain ? { causal: true } : { mask: visible(count, length - count, window, q) };
  const [ks, vs] = [keys, values].map((x) => x.narrow(1, 0, length).unsqueeze(0)) as [Tensor, Tensor];
  const y = attend(q.unsqueeze(0).transpose(1, 2), ks, vs, { ...options, ...scores });
  return y.transpose(1, 2).flatten(2, 3).squeeze(0);
}

/** True where row t of the new ones may look: itself and the rows before it, of which S are older, as far as its window goes. [T, S + T] */
function visible(rows: number, older: number, window: number, { device }: Tensor): Tensor {
  const at = arange(0, older + rows, { dtype: 'int64', device });
  const own = at.narrow(0, older, rows).unsqueeze(1);
  const past = at.unsqueeze(0).le(own);
  return window >= older + rows ? past : past.logicalAnd(at.unsqueeze(0).gt(own.sub(window)));
}

/** Dims: B sequences, H query heads, T rows, G key/value heads, S keys. `q` [B, H, T, D], `k` and `v` [B, G, S, D] to [B, H, T, D]. */
function attend(q: Tensor, k: Tensor, v: Tensor, { softcap, ...options }: Omit<Scores, 'window'> & AttentionOptions): Tensor {
  const gqa = q.size(1) !== k.size(1);
  return softcap === undefined ? scaledDotProductAttention(q, k, v, { ...options, gqa }) : cappedAttention(q, k, v, softcap, options);
}

/** No kernel bends scores, so they exist as a whole here, [B, H, T, S]. */
function cappedAttention(q: Tensor, k: Tensor, v: Tensor, softcap: number, { causal, mask, scale }: AttentionOptions): Tensor {
  const [B, H, T, D] = sizes(q, 'B H T D');
  const [, G, S] = sizes(k, 'B G S D', { B, D });
  const seen = causal ? visible(T, S - T, Number.POSITIVE_INFINITY, q) : mask;
  // Heads that share keys become more rows of one product.
  const raw = q
    .mul(scale ?? 1 / Math.sqrt(D))
    .reshape(B, G, (H / G) * T, D)
    .matmul(k.transpose(2, 3))
    .view(B, H, T, S);
  const capped = raw.div(softcap).tanh().mul(softcap).cast('float32');
  const weights = (seen ? capped.maskedFill(seen.logicalNot(), Number.NEGATIVE_INFINITY) : capped).softmax(3).cast(q.dtype);
  return weights
    .view(B, G, (H / G) * T, S)
    .matmul(v)
    .view(B, H, T, D);
}

function rows(x: Tensor, start: number, length: number): Tensor {
  return start === 0 && length === x.size(0) ? x : x.narrow(0, start, length);
}

function batched(x: Tensor, count: number): Tensor {
  return x.view(count, x.size(0) / count, x.size(1), x.size(2));
}
