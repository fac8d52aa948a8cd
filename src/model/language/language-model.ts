import type { Sequences } from '../../nn/attention.ts';
import type { KvCache } from '../../nn/kv-cache.ts';
import { runLayers } from '../../nn/layers.ts';
import { Module } from '../../nn/module.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** A causal language model on packed sequences. Dims: N packed tokens of all sequences, C width, V vocabulary. */
export abstract class LanguageModel extends Module {
  abstract readonly hiddenSize: number;
  abstract readonly vocabSize: number;

  /** int64 `ids` [N] to embeddings [N, C]. */
  abstract embed(ids: Tensor): Tensor;

  /** Embeddings [N, C] to hidden states [N, C] behind the final norm, or the wanted rows [K, C] of them. Each sequence sees itself alone, and what its cache holds. */
  abstract forward(x: Tensor, sequences: Sequences): Tensor;

  /** The head's weight [V, C], which may be the embeddings'. */
  abstract get headWeight(): Tensor;

  /** The head's bias [V], where the architecture has one. */
  get headBias(): Tensor | undefined {
    return undefined;
  }

  /** Logits l are cap · tanh(l / cap), where the architecture has it so. */
  get logitCap(): number | undefined {
    return undefined;
  }

  /** What stands before its keys, the head's apart, in a checkpoint of it alone. */
  get prefix(): string {
    return 'model';
  }

  /** Whether what a cache holds of a sequence of one length is right for it at the other; where long sequences turn by frequencies of their own it is not. */
  cacheServes(_length: number, _other: number): boolean {
    return true;
  }

  /** An empty cache for one sequence, with room for `capacity` tokens at first. */
  abstract createCache(options?: { capacity?: number }): KvCache;

  /** `x` [N, C] through all layers, of which the last one is given what rows are wanted, and after which the caches count the new tokens. Throws ShapeError. */
  protected run<Layer>(
    layers: readonly Layer[],
    x: Tensor,
    sequences: Sequences,
    step: (layer: Layer, h: Tensor, sequences: Sequences, index: number) => Tensor,
  ): Tensor {
    const { lengths, caches = [] } = sequences;
    const inner = { ...sequences, wanted: undefined };
    sizes(x, 'N C', { N: lengths.reduce((sum, length) => sum + length, 0), C: this.hiddenSize });
    const last = layers.length - 1;
    const hidden = runLayers(layers, x, (layer, h, index) => step(layer, h, index === last ? sequences : inner, index));
    for (const [index, cache] of caches.entries()) cache.advance(lengths[index] ?? 0);
    return hidden;
  }
}
