import type { Sequences } from '../../nn/attention.ts';
import type { KvCache } from '../../nn/kv-cache.ts';
import { Module } from '../../nn/module.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** A causal language model on packed sequences. Dims: N packed tokens of all sequences, C width, V vocabulary. */
export abstract class LanguageModel extends Module {
  abstract readonly hiddenSize: number;
  abstract readonly vocabSize: number;

  /** int64 `ids` [N] to embeddings [N, C]. */
  abstract embed(ids: Tensor): Tensor;

  /** Embeddings [N, C] to hidden states [N, C] behind the final norm. Each sequence sees itself alone, and what its cache holds. */
  abstract forward(x: Tensor, sequences: Sequences): Tensor;

  /** The head's weight [V, C], which may be the embeddings'. */
  abstract get headWeight(): Tensor;

  /** The head's bias [V], where the architecture has one. */
  abstract get headBias(): Tensor | undefined;

  /** An empty cache for one sequence, with room for `capacity` tokens at first. */
  abstract createCache(options?: { capacity?: number }): KvCache;
}
