import { setImmediate } from 'node:timers/promises';
import type { MicroBatchLimits } from '../data/batch.ts';
import { Loader, type LoaderOptions } from '../data/loader.ts';
import type { RowSource } from '../data/rows.ts';
import { Sampler } from '../data/sampler.ts';
import { DataError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Processor } from '../processor/processor.ts';
import { noGrad } from '../tensor/autograd.ts';
import { Scope } from '../tensor/scope.ts';
import type { Stage, Validation } from './recipe.ts';
import { shareStep, type Wishes } from './share.ts';
import { batchLoss } from './step.ts';
import { type Exchange, solo, type Team } from './team.ts';

/** The loss on rows that are not learned from. */
export interface ValidationFacts {
  /** Mean over all their supervised tokens. */
  readonly loss: number;
  readonly rows: number;
  readonly supervisedTokens: number;
}

/** What is validated, on what and how. */
export interface ValidationInput {
  readonly model: TinyLlava;
  readonly processor: Processor;
  readonly rows: RowSource;
  readonly stage: Pick<Stage, 'maxLength' | 'unusableRows' | 'batchSize'>;
  readonly microBatch: MicroBatchLimits;
  /** What the frozen tower makes of images, where it is kept. */
  readonly encode?: LoaderOptions['encode'];
  readonly workers?: number | undefined;
  readonly team?: Team;
  readonly aligned?: Wishes['aligned'];
  readonly exchange?: Exchange | undefined;
  /** Ends it where it is. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The mean loss over all supervised tokens of the rows, undefined when the signal ended it. Throws DataError for rows that cannot be used, unless the
 * stage says to skip them.
 */
export async function validate(options: ValidationInput): Promise<ValidationFacts | undefined> {
  const { model, rows, team = solo, aligned, exchange, signal } = options;
  await using loader = loaderOf(options);
  let [loss, used, supervisedTokens] = [0, 0, 0];
  for (let position = 0; position < rows.length; ) {
    const step = await loader.next();
    // Signals need a turn of the event loop, which data that is ready does not take.
    await setImmediate();
    const shared = shareStep(team, step, { aligned, stop: signal?.aborted === true });
    if (shared.stop) return undefined;
    exchange?.open();
    for (const batch of shared.input.batches()) {
      using _scope = new Scope();
      loss += noGrad(() => batchLoss(model, batch).item());
    }
    exchange?.close();
    used += shared.examples;
    supervisedTokens += shared.supervisedTokens;
    position = step.state.position;
  }
  if (used === 0) throw noneUsable(rows);
  const [sum = 0] = team.sum([loss]);
  return { loss: sum / supervisedTokens, rows: used, supervisedTokens };
}

/** Throws DataError where `validate` would for having no row that it can use, or for the first one, so that nobody trains until then. */
export async function checkUsable({ processor, rows, stage }: Pick<ValidationInput, 'processor' | 'rows' | 'stage'>): Promise<void> {
  await using loader = loaderOf({ processor, rows, stage: { ...stage, batchSize: 1 }, microBatch: { examples: 1 }, workers: 0 });
  for (let i = 0; i < rows.length; i++) if ((await loader.next()).examples > 0) return;
  throw noneUsable(rows);
}

const noneUsable = ({ length }: RowSource): DataError => new DataError(`none of the ${length} rows for validation can be used`);

/** Reads each row once, however often it would be learned. */
function loaderOf({
  processor,
  rows,
  stage: { batchSize, maxLength, unusableRows },
  microBatch,
  encode,
  workers,
  team = solo,
}: Omit<ValidationInput, 'model'>): Loader {
  const parts = rows.parts.map((part) => ({ rows: part.rows, blocks: part.blocks }));
  return new Loader({
    rows,
    processor,
    sampler: new Sampler({ parts, batchSize, seed: 0, order: 'sequential' }),
    steps: Math.ceil(rows.length / batchSize),
    microBatch,
    encode,
    maxLength,
    unusable: unusableRows,
    share: team,
    ...(workers !== undefined && { workers }),
  });
}

/** What is remembered of validations. */
export interface ProgressState {
  readonly best?: { readonly loss: number; readonly step: number } | undefined;
  /** Validations since then. */
  readonly worse: number;
  /** The step behind which the last one was. */
  readonly last?: number | undefined;
}

/** Whether validation still gets better. */
export class Progress {
  readonly #options: Pick<Validation, 'patience' | 'minImprovement'>;
  #state: ProgressState;

  constructor(options: Pick<Validation, 'patience' | 'minImprovement'>, state: ProgressState = { worse: 0 }) {
    this.#options = options;
    this.#state = state;
  }

  get state(): ProgressState {
    return this.#state;
  }

  /** Takes a validation; true when it is the best one so far, which one that is not finite never is. */
  add(loss: number, step: number): boolean {
    const { best, worse } = this.#state;
    const better = Number.isFinite(loss) && (best === undefined || loss < best.loss - this.#options.minImprovement);
    this.#state = better ? { best: { loss, step }, worse: 0, last: step } : { best, worse: worse + 1, last: step };
    return better;
  }

  /** There were as many validations in a row without a better one as there is patience for. */
  get over(): boolean {
    return this.#state.worse >= (this.#options.patience ?? Number.POSITIVE_INFINITY);
  }
}
