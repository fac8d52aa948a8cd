import { DataError, TinyLlavaError } from '../errors.ts';
import type { ModelBatch, TinyLlava } from '../model/tinyllava.ts';
import { backwardRecomputing } from '../nn/layers.ts';
import { foreachMul_ } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import { clipGradients } from './clip.ts';
import { type Labelled, summedLoss, targetsOf } from './loss.ts';
import type { AdamW } from './optimizer.ts';

/** Packed conversations with what is to be learned from them. */
export type TrainBatch = ModelBatch & Labelled;

/** What one step of the optimizer saw and did; `loss` is the mean over the supervised tokens, `gradNorm` the norm before clipping. */
export interface StepFacts {
  readonly loss: number;
  readonly gradNorm: number;
  readonly examples: number;
  readonly images: number;
  readonly tokens: number;
  readonly supervisedTokens: number;
}

/** How a step is done; `recompute` trades time for memory, and `maxGradNorm` 0 clips nothing. */
export interface StepOptions {
  readonly maxGradNorm: number;
  readonly recompute?: boolean;
}

const nothing: StepFacts = { loss: 0, gradNorm: 0, examples: 0, images: 0, tokens: 0, supervisedTokens: 0 };

const listed = (rows: readonly string[] = []): string => (rows.length === 0 ? '' : ` on ${rows.join(', ')}`);

/** One step of the optimizer over any number of micro-batches: `add` each, then `update`. */
export class Stepper {
  readonly #model: TinyLlava;
  readonly #optimizer: AdamW;
  readonly #options: StepOptions;
  #seen = nothing;
  #summed = 0;
  #rows: string[] = [];

  constructor(model: TinyLlava, optimizer: AdamW, options: StepOptions) {
    this.#model = model;
    this.#optimizer = optimizer;
    this.#options = options;
  }

  /** Adds the gradients of a micro-batch. Throws DataError for a conversation without supervised tokens or a loss that is not finite. */
  add(batch: TrainBatch): void {
    using _scope = new Scope();
    const targets = targetsOf(batch);
    const forward = () => summedLoss(this.#model, this.#model.hidden(batch), targets);
    const loss = this.#options.recompute ? backwardRecomputing(forward) : forward();
    const summed = loss.item();
    if (!Number.isFinite(summed)) {
      throw new DataError(`the loss is ${summed}${listed(batch.rows)}`, {
        hint: 'look at these rows with `tinyllava inspect`; if they are sound, lower the learning rate',
      });
    }
    if (!this.#options.recompute) loss.backward();
    this.#summed += summed;
    this.#rows.push(...(batch.rows ?? []));
    this.#seen = {
      ...this.#seen,
      examples: this.#seen.examples + batch.lengths.length,
      images: this.#seen.images + ((batch.imageFeatures ?? batch.pixels)?.size(0) ?? 0),
      tokens: this.#seen.tokens + batch.ids.length,
      supervisedTokens: this.#seen.supervisedTokens + targets.rows.length,
    };
  }

  /** Moves the parameters by the gradients of the mean loss and drops them. Throws TinyLlavaError when they are not finite. */
  update(factor: number): StepFacts {
    using _scope = new Scope();
    const gradients = this.#optimizer.gradients();
    // The number of supervised tokens is known once all micro-batches have been seen.
    foreachMul_(gradients, 1 / this.#seen.supervisedTokens);
    const gradNorm = clipGradients(gradients, this.#options.maxGradNorm || Number.POSITIVE_INFINITY);
    if (!Number.isFinite(gradNorm)) throw new TinyLlavaError(`the gradients' norm is ${gradNorm}${listed(this.#rows)}`);
    this.#optimizer.step(factor);
    this.#optimizer.zeroGradients();
    const facts = { ...this.#seen, loss: this.#summed / this.#seen.supervisedTokens, gradNorm };
    [this.#seen, this.#summed, this.#rows] = [nothing, 0, []];
    return facts;
  }
}
