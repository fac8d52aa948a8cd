import type { Batch } from '../data/batch.ts';
import { DataError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { backwardByLayers } from '../nn/layers.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { clipFactor, gradientNorm } from './clip.ts';
import { summedLoss, targetsOf } from './loss.ts';
import type { LossScale } from './loss-scale.ts';
import type { Optimizer } from './optimizer.ts';
import { type Exchange, solo, type Team } from './team.ts';

/** The conversations of one step: this rank's share in micro-batches, with the supervised tokens of all ranks counted. */
export interface StepInput {
  readonly supervisedTokens: number;
  /** How many there are, where several ranks exchange gradients behind the last one. */
  readonly microBatches?: number;
  batches(): Iterable<Batch>;
}

/** How a step is done; `factor` scales the learning rates, `maxGradNorm` 0 clips nothing, `recompute` trades time for memory. */
export interface StepOptions {
  readonly factor: number;
  readonly maxGradNorm: number;
  readonly recompute?: boolean;
  /** For float16. */
  readonly lossScale?: LossScale | undefined;
  readonly team?: Team;
  /** For several processes. */
  readonly exchange?: Exchange | undefined;
}

/** What a step did on all ranks together: the mean loss over the supervised tokens, the gradients' norm before clipping, and what it saw. */
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
 * One step of the optimizer over all micro-batches of all ranks, by the gradients of the mean loss over every supervised token among them. Throws
 * NonFiniteError naming the rows when a loss or the gradients are not finite, on every rank; the parameters are then as they were.
 */
export function trainStep(
  model: TinyLlava,
  optimizer: Optimizer,
  input: StepInput,
  { factor, maxGradNorm, recompute = false, lossScale, team = solo, exchange }: StepOptions,
): StepFacts {
  const [rows, broken]: [string[], string[]] = [[], []];
  let [count, share, sequences, pictures, length] = [0, 0, 0, 0, 0];
  const scaledBy = lossScale?.factor ?? 1;
  exchange?.open();
  for (const batch of input.batches()) {
    // Gradients of one micro-batch alone need no sums.
    if (count > 0) optimizer.bank();
    exchange?.begin({ last: ++count === input.microBatches });
    const own = backward(model, batch, { weight: scaledBy / input.supervisedTokens, recompute, exchange }) / scaledBy;
    if (!Number.isFinite(own) && broken.length === 0) broken.push(...batch.rows);
    share += own;
    sequences += batch.lengths.length - (batch.blank ? 1 : 0);
    rows.push(...batch.rows);
    pictures += ((batch.pixels ?? batch.towerFeatures)?.size(0) ?? 0) - (batch.blank?.views ?? 0);
    length += batch.ids.length - (batch.blank?.tokens ?? 0);
  }
  exchange?.finish();
  exchange?.close();
  if (optimizer.banked) optimizer.bank();
  const [loss = 0, examples = 0, images = 0, tokens = 0] = team.sum([share, sequences, pictures, length]);
  if (!Number.isFinite(loss)) {
    optimizer.zeroGradients();
    throw new NonFiniteError(`the loss is ${loss} on ${team.gather(broken).flat().join(', ')}`, {
      hint: 'look at these rows with `tinyllava inspect`; if they are sound, lower the learning rate',
    });
  }
  using _scope = new Scope();
  const ownNorm = gradientNorm(optimizer.gradients()) / scaledBy;
  const gradNorm = exchange?.norm(ownNorm) ?? ownNorm;
  const overflowed = !Number.isFinite(gradNorm);
  const lost = lossScale ? !lossScale.update({ overflowed }) : overflowed;
  if (lost) {
    optimizer.zeroGradients();
    throw new NonFiniteError(`the gradients' norm is ${gradNorm} on ${team.gather(rows).flat().join(', ')}`, {
      hint: lossScale ? 'use precision: bfloat16, or lower the learning rate' : 'lower the learning rate',
    });
  }
  if (!overflowed) optimizer.step(factor, { scale: clipFactor(gradNorm, maxGradNorm || Number.POSITIVE_INFINITY) / scaledBy });
  optimizer.zeroGradients();
  const facts = { loss, gradNorm, examples, images, tokens, supervisedTokens: input.supervisedTokens };
  return lossScale ? { ...facts, lossScale: scaledBy, overflowed } : facts;
}

/** The cross-entropy summed over the supervised tokens of a micro-batch. */
export function batchLoss(model: TinyLlava, batch: Batch): Tensor {
  const { device, dtype } = model.languageModel.headWeight;
  const { rows: wanted, tokens } = targetsOf(batch);
  return summedLoss(model, model.hidden({ ...batch, pixels: batch.pixels?.to({ device, dtype }), wanted }), tokens);
}

/** Adds the gradients of a micro-batch's summed loss times `weight`, and gives that. */
function backward(
  model: TinyLlava,
  batch: Batch,
  { weight, recompute, exchange }: { weight: number; recompute: boolean; exchange: Exchange | undefined },
): number {
  using _scope = new Scope();
  const forward = () => batchLoss(model, batch).mul(weight);
  if (recompute || exchange) return backwardByLayers(forward, { recompute }).item();
  const loss = forward();
  const value = loss.item();
  // Rows without images teach a connector nothing where the language model is frozen.
  if (Number.isFinite(value) && loss.requiresGrad) loss.backward();
  return value;
}
