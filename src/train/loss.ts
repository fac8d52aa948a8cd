import type { Batch } from '../data/batch.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { unlabelled } from '../processor/processor.ts';
import { indices } from '../tensor/create.ts';
import { dtypeBytes } from '../tensor/dtype.ts';
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

/** The cross-entropy summed over the targets; the head sees their rows alone. `hidden` [N, C]. */
export function summedLoss({ languageModel }: TinyLlava, hidden: Tensor, { rows, tokens }: Targets): Tensor {
  const { headWeight, headBias, logitCap } = languageModel;
  const { device } = hidden;
  // What is capped is computed in float32.
  const rowBytes = headWeight.size(0) * (logitCap === undefined ? dtypeBytes(headWeight.dtype) : 4);
  const chunk = Math.max(1, Math.floor(chunkBytes / rowBytes));
  const wanted = hidden.indexSelect(0, indices(rows).to({ device }));
  const labels = indices(tokens).to({ device });
  if (logitCap !== undefined) return cappedCrossEntropy(wanted, { weight: headWeight, bias: headBias, cap: logitCap }, labels, { chunk });
  return linearCrossEntropy(wanted, headWeight, labels, { bias: headBias, chunk });
}
