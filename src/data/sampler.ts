import { ConfigError } from '../errors.ts';
import { Random } from './random.ts';

/** Where a sampler stands: `position` rows of `epoch` have been given. */
export interface SamplerState {
  readonly epoch: number;
  readonly position: number;
}

/** How rows are ordered. */
export interface SamplerOptions {
  /** Rows in the data. */
  readonly count: number;
  /** Rows of one optimizer step; the last step of an epoch may have fewer. */
  readonly batchSize: number;
  readonly seed: number;
  /** Off: the order of the file, every epoch. */
  readonly shuffle?: boolean;
  /** Puts rows of like length into one step: lengths of all rows, in any unit; steps come in random order. */
  readonly lengths?: ArrayLike<number>;
  /** Where to go on. */
  readonly state?: SamplerState;
}

/** Which rows each step takes. The order of an epoch follows from seed and epoch alone, so that its state is two numbers and going on from it is exact. */
export class Sampler {
  readonly count: number;
  readonly batchSize: number;
  readonly #options: SamplerOptions;
  #epoch: number;
  #position: number;
  #order: Uint32Array | undefined;

  /** Throws ConfigError for data without rows and for lengths or states that do not fit. */
  constructor(options: SamplerOptions) {
    const { count, batchSize, lengths, state = { epoch: 0, position: 0 } } = options;
    if (count < 1)
      throw new ConfigError('there are no rows to take batches from', {
        hint: 'see what the data files hold with `tinyllava inspect FILE`',
      });
    if (!Number.isInteger(batchSize) || batchSize < 1) throw new ConfigError(`batchSize must be a positive whole number, got ${batchSize}`);
    if (lengths && lengths.length !== count) throw new ConfigError(`${lengths.length} lengths for ${count} rows`);
    if (state.position > count) {
      throw new ConfigError(`cannot go on at row ${state.position} of ${count}`, {
        hint: 'the data has fewer rows than when the state was saved',
      });
    }
    this.count = count;
    this.batchSize = batchSize;
    this.#options = options;
    this.#epoch = state.epoch;
    this.#position = state.position;
  }

  /** Steps that an epoch takes. */
  get stepsPerEpoch(): number {
    return Math.ceil(this.count / this.batchSize);
  }

  /** After the last `next`: what to save for going on. */
  get state(): SamplerState {
    return { epoch: this.#epoch, position: this.#position };
  }

  /** The rows of the next step; after an epoch the next one begins. */
  next(): Uint32Array {
    if (this.#position >= this.count) {
      this.#epoch++;
      this.#position = 0;
      this.#order = undefined;
    }
    this.#order ??= orderOf(this.#options, this.#epoch);
    const rows = this.#order.slice(this.#position, this.#position + this.batchSize);
    this.#position += rows.length;
    return rows;
  }
}

/** The order of all rows in one epoch. */
function orderOf({ count, batchSize, seed, shuffle = true, lengths }: SamplerOptions, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  if (!shuffle) return order;
  const random = new Random(seed, epoch);
  random.shuffle(order);
  return lengths ? grouped(order, { batchSize, lengths, random }) : order;
}

/** Sorts by length within windows of 50 steps, so that like meets like but steps still differ between epochs; then shuffles the steps. */
function grouped(
  order: Uint32Array,
  { batchSize, lengths, random }: { batchSize: number; lengths: ArrayLike<number>; random: Random },
): Uint32Array {
  const window = 50 * batchSize;
  for (let from = 0; from < order.length; from += window) {
    order.subarray(from, from + window).sort((a, b) => (lengths[b] ?? 0) - (lengths[a] ?? 0));
  }
  const whole = Math.floor(order.length / batchSize);
  const steps = random.shuffle(Array.from({ length: whole }, (_, step) => order.slice(step * batchSize, (step + 1) * batchSize)));
  // the smaller last step stays the last
  return Uint32Array.from([...steps, order.slice(whole * batchSize)].flatMap((step) => [...step]));
}
