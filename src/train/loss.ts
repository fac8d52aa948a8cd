import type { Batch } from '../data/batch.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { unlabelled } from '../processor/processor.ts';
import { indices } from '../tensor/create.ts';
import { linearCrossEntropy } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { cappedCrossEntropy } from './capped-loss.ts';

/** Logits at a time, in bytes: enough rows to keep a matrix product busy, few enough to forget about. */
export const chunkBytes = 1 << 26;

/** The packed rows that predict a supervised token, and the tokens. */
export interface Targets {
  readonly rows: readonly number[];
  readonly tokens: readonly number[];
}

/** Row t predicts label t + 1 of its own sequence; -100 is not supervised. `labels` [N], packed as `lengths` says. */
export function targetsOf({ labels, lengths }: Pick<Batch, 'labels' | 'lengths'>): Targets {
  const rows: number[] = [];
  const tokens: number[] = [];
  let start = 0;
  for (const length of lengths) {
    for (let row = start; row < start + length - 1; row++) {
      const token = labels[row + 1] ?? unlabelled;
      if (token === unlabelled) continue;
      rows.push(row);
      tokens.push(token);
    }
    start += length;
  }
  return { rows, tokens };
}

/** The cross-entropy summed over the target tokens, of the hidden states of their rows, [K, C]. */
export function summedLoss({ languageModel }: TinyLlava, hidden: Tensor, tokens: Targets['tokens']): Tensor {
  const { headWeight, headBias, logitCap } = languageModel;
  // Only the kernel for CPUs has logits that are narrower than float32.
  const narrow = logitCap === undefined && headWeight.device === 'cpu' && headWeight.dtype === 'bfloat16';
  const chunk = Math.max(1, Math.floor(chunkBytes / (headWeight.size(0) * (narrow ? 2 : 4))));
  const labels = indices(tokens).to({ device: hidden.device });
  if (logitCap !== undefined) return cappedCrossEntropy(hidden, { weight: headWeight, bias: headBias, cap: logitCap }, labels, { chunk });
  return linearCrossEntropy(hidden, headWeight, labels, { bias: headBias, chunk });
}
