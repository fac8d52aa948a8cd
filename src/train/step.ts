import type { Batch } from '../data/batch.ts';
import { DataError, TinyLlavaError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { backwardRecomputing } from '../nn/layers.ts';
import { Scope } from '../tensor/scope.ts';
import { clipGradients } from './clip.ts';
import { summedLoss, targetsOf } from './loss.ts';
import type { AdamW } from './optimizer.ts';

/** The conversations of one step: packed in micro-batches, with the supervised tokens of all of them counted. */
export interface StepInput {
  readonly supervisedTokens: number;
  batches(): Iterable<Batch>;
}

/** How a step is done; `factor` scales the learning rates, `maxGradNorm` 0 clips nothing, `recompute` trades time for memory. */
export interface StepOptions {
  readonly factor: number;
  readonly maxGradNorm: number;
  readonly recompute?: boolean;
}

/** What a step did: the mean loss over the supervised tokens, the gradients' norm before clipping, and what it saw. */
export interface StepFacts {
  readonly loss: number;
  readonly gradNorm: number;
  readonly examples: number;
  readonly images: number;
  readonly tokens: number;
  readonly supervisedTokens: number;
}

/**
 * One step of the optimizer over all micro-batches, by the gradients of the mean loss over every supervised token among them. Throws
 * DataError naming the rows when a loss is not finite; the parameters are then as they were.
 */
export function trainStep(
  model: TinyLlava,
  optimizer: AdamW,
  input: StepInput,
  { factor, maxGradNorm, recompute = false }: StepOptions,
): StepFacts {
  let [loss, examples, images, tokens] = [0, 0, 0, 0];
  for (const batch of input.batches()) {
    const share = backward(model, batch, { supervisedTokens: input.supervisedTokens, recompute });
    if (!Number.isFinite(share)) {
      optimizer.zeroGradients();
      throw new DataError(`the loss is ${share} on ${batch.rows.join(', ')}`, {
        hint: 'look at these rows with `tinyllava inspect`; if they are sound, lower the learning rate',
      });
    }
    loss += share;
    examples += batch.lengths.length;
    images += (batch.pixels ?? batch.towerFeatures)?.size(0) ?? 0;
    tokens += batch.ids.length;
  }
  using _scope = new Scope();
  const gradNorm = clipGradients(optimizer.gradients(), maxGradNorm || Number.POSITIVE_INFINITY);
  if (!Number.isFinite(gradNorm)) throw new TinyLlavaError(`the gradients' norm is ${gradNorm}`, { hint: 'lower the learning rate' });
  optimizer.step(factor);
  optimizer.zeroGradients();
  return { loss, gradNorm, examples, images, tokens, supervisedTokens: input.supervisedTokens };
}

/** Adds the gradients of a micro-batch and gives its share of the mean loss. */
function backward(
  model: TinyLlava,
  batch: Batch,
  { supervisedTokens, recompute }: { supervisedTokens: number; recompute: boolean },
): number {
  using _scope = new Scope();
  const { device } = model.languageModel.headWeight;
  const pixels = batch.pixels?.to({ device });
  const forward = () => summedLoss(model, model.hidden({ ...batch, pixels }), targetsOf(batch)).div(supervisedTokens);
  if (recompute) return backwardRecomputing(forward).item();
  const loss = forward();
  const value = loss.item();
  if (Number.isFinite(value)) loss.backward();
  return value;
}
