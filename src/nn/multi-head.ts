import type { Tensor } from '../tensor/tensor.ts';
import { batchAttention } from './attention.ts';

/**
 * Every query over every key, in `heads` heads. Dims: B sequences, T queries, S keys, C = heads · D. `q` [B, T, C], `k` and `v` [B, S, C]
 * to [B, T, C].
 */
export function multiHeadAttention(q: Tensor, k: Tensor, v: Tensor, { heads }: { heads: number }): Tensor {
  const [qs, ks, vs] = [q, k, v].map((x) => x.view(x.size(0), x.size(1), heads, x.size(2) / heads)) as [Tensor, Tensor, Tensor];
  return batchAttention(qs, ks, vs, { causal: false });
}
