import type { Batch } from '../data/batch.ts';
import { DataError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { backwardRecomputing } from '../nn/layers.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { clipFactor, gradientNorm } from './clip.ts';
import { summedLoss, targetsOf } from './loss.ts';
import type { LossScale } from './loss-scale.ts';
import type { Optimizer } from './optimizer.ts';

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
  /** For float16. */
  readonly lossScale?: LossScale | undefined;
}

/** What a step did: the mean loss over the supervised tokens, the gradients' norm before clipping, and what it saw. */
export interface StepFacts {
  readonly loss: number;
  readonly gradNorm: number;
  readonly examples: number;
  readonly images: number;
  readonly tokens: number;
  readonly supervisedTokens: number;
  /** For float16: what the loss was multiplied by, and whether the gradients overflowed, in which case the weights are as they were. */
  readonly lossScale?: number;
  readonly overflowed?: boolean;
}

/** A loss or gradients that are not finite. */
export class NonFiniteError extends DataError {}

/**
 * One step of the optimizer over all micro-batches, by the gradients of the mean loss over every supervised token among them. Throws
 * NonFiniteError naming the rows when a loss or the gradients are not finite; the parameters are then as they were.
 */
export function trainStep(
  model: TinyLlava,
  optimizer: Optimizer,
  input: StepInput,
  { factor, maxGradNorm, recompute = false, lossScale }: StepOptions,
): StepFacts {
  let [loss, examples, images, tokens] = [0, 0, 0, 0];
  const rows: string[] = [];
  const scaledBy = lossScale?.factor ?? 1;
  for (const batch of input.batches()) {
    // Gradients of one micro-batch alone need no sums.
    if (examples > 0) optimizer.bank();
    const share = backward(model, batch, { weight: scaledBy / input.supervisedTokens, recompute }) / scaledBy;
    if (!Number.isFinite(share)) {
      optimizer.zeroGradients();
      throw new NonFiniteError(`the loss is ${share} on ${batch.rows.join(', ')}`, {
        hint: 'look at these rows with `tinyllava inspect`; if they are sound, lower the learning rate',
      });
    }
    loss += share;
    examples += batch.lengths.length;
    rows.push(...batch.rows);
    images += (batch.pixels ?? batch.towerFeatures)?.size(0) ?? 0;
    tokens += batch.ids.length;
  }
  if (optimizer.banked) optimizer.bank();
  using _scope = new Scope();
  const gradNorm = gradientNorm(optimizer.gradients()) / scaledBy;
  const overflowed = !Number.isFinite(gradNorm);
  lossScale?.update({ overflowed });
  if (overflowed && !lossScale) {
    optimizer.zeroGradients();
    throw new NonFiniteError(`the gradients' norm is ${gradNorm} on ${rows.join(', ')}`, { hint: 'lower the learning rate' });
  }
  if (!overflowed) optimizer.step(factor, { scale: clipFactor(gradNorm, maxGradNorm || Number.POSITIVE_INFINITY) / scaledBy });
  optimizer.zeroGradients();
  const facts = { loss, gradNorm, examples, images, tokens, supervisedTokens: input.supervisedTokens };
  return lossScale ? { ...facts, lossScale: scaledBy, overflowed } : facts;
}

/** The cross-entropy summed over the supervised tokens of a micro-batch. */
export function batchLoss(model: TinyLlava, batch: Batch): Tensor {
  const { device, dtype } = model.languageModel.headWeight;
  return summedLoss(model, model.hidden({ ...batch, pixels: batch.pixels?.to({ device, dtype }) }), targetsOf(batch));
}

/** Adds the gradients of a micro-batch's summed loss times `weight`, and gives that. */
function backward(model: TinyLlava, batch: Batch, { weight, recompute }: { weight: number; recompute: boolean }): number {
  using _scope = new Scope();
  const forward = () => batchLoss(model, batch).mul(weight);
  if (recompute) return backwardRecomputing(forward).item();
  const loss = forward();
  const value = loss.item();
  // Rows without images teach a connector nothing where the language model is frozen.
  if (Number.isFinite(value) && loss.requiresGrad) loss.backward();
  return value;
}
