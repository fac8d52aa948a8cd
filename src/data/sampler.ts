import { ConfigError } from '../errors.ts';
import { orderOf, randomOfEpoch } from './order.ts';
import type { Random } from './random.ts';
import type { Part, RowSizes } from './rows.ts';
import { epochRows } from './shares.ts';

/** Where a sampler stands: `position` rows of `epoch` have been given. */
export interface SamplerState {
  readonly epoch: number;
  readonly position: number;
}

/** In which order rows come: at random, so too but rows of like length in one step, or as they stand. */
export const orders = ['shuffle', 'length-grouped', 'sequential'] as const;
/** Whether a step may have rows with images and rows without. */
export const modalities = ['mixed', 'apart'] as const;

/** How rows are ordered. */
export interface Sampling {
  readonly order?: (typeof orders)[number];
  readonly modalities?: (typeof modalities)[number];
  /** Rows that are drawn from at a time, in whole blocks: an epoch then reads shards one after the other. */
  readonly buffer?: number | undefined;
}

/** What is sampled. */
export interface SamplerOptions extends Sampling {
  readonly parts: readonly Part[];
  /** Rows of one optimizer step; the last step of an epoch may have fewer. */
  readonly batchSize: number;
  readonly seed: number;
  /** Of all rows, for steps of like rows. */
  readonly sizes?: RowSizes | undefined;
  /** What an image counts in `sizes`, in bytes of text. */
  readonly imageBytes?: number;
  /** Where to go on. */
  readonly state?: SamplerState | undefined;
}

/** Whether rows are put together by their sizes. */
export const needsSizes = ({ order, modalities }: Sampling): boolean => order === 'length-grouped' || modalities === 'apart';

/** Which rows each step takes. The order of an epoch follows from seed and epoch alone, so that its state is two numbers and going on from it is exact. */
export class Sampler {
  /** Rows of an epoch. */
  readonly count: number;
  readonly batchSize: number;
  readonly #options: SamplerOptions;
  #epoch: number;
  #position: number;
  #order: Uint32Array | undefined;

  /** Throws ConfigError for data without rows and for sizes or states that do not fit. */
  constructor(options: SamplerOptions) {
    const { parts, batchSize, sizes, state = { epoch: 0, position: 0 } } = options;
    const rows = parts.reduce((sum, part) => sum + part.rows, 0);
    if (rows < 1)
      throw new ConfigError('there are no rows to take batches from', {
        hint: 'see what the data files hold with `tinyllava inspect FILE`',
      });
    if (!Number.isInteger(batchSize) || batchSize < 1) throw new ConfigError(`batchSize must be a positive whole number, got ${batchSize}`);
    if (needsSizes(options) && sizes?.text.length !== rows) throw new ConfigError(`${sizes?.text.length ?? 0} sizes for ${rows} rows`);
    this.count = epochRows(parts);
    if (state.position > this.count) {
      throw new ConfigError(`cannot go on at row ${state.position} of ${this.count}`, {
        hint: 'the data has fewer rows than when the state was saved',
      });
    }
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
    this.#order ??= this.#orderOf(this.#epoch);
    const rows = this.#order.slice(this.#position, this.#position + this.batchSize);
    this.#position += rows.length;
    return rows;
  }

  #orderOf(epoch: number): Uint32Array {
    const { order: kind = 'shuffle', ...options } = this.#options;
    const order = orderOf({ ...options, shuffled: kind !== 'sequential' }, epoch);
    if (!needsSizes(this.#options)) return order;
    const random = randomOfEpoch({ ...options, shuffled: true }, epoch);
    return grouped(order, { ...options, byLength: kind === 'length-grouped', random });
  }
}

/** How long rows are, about, in bytes of text. */
export const lengthIn =
  (sizes: RowSizes | undefined, imageBytes: number) =>
  (row: number): number =>
    (sizes?.text[row] ?? 0) + imageBytes * (sizes?.images[row] ?? 0);

interface Grouping extends Pick<SamplerOptions, 'batchSize' | 'modalities' | 'sizes' | 'imageBytes'> {
  readonly byLength: boolean;
  readonly random: Random;
}

/**
 * Puts like rows into one step, within windows of 50 steps, so that like meets like, steps still differ between epochs, and rows that are read together stay so. Steps
 * of a window come in random order. What fills no step goes on to the next window, and at the end into the last steps, which are mixed.
 */
function grouped(order: Uint32Array, { batchSize, modalities, sizes, imageBytes = 0, byLength, random }: Grouping): Uint32Array {
  const imagesOf = (row: number): number => sizes?.images[row] ?? 0;
  const lengthOf = lengthIn(sizes, imageBytes);
  const kindOf = (row: number): number => (modalities === 'apart' && imagesOf(row) > 0 ? 1 : 0);
  const result: number[] = [];
  let left: number[][] = [[], []];
  const window = 50 * batchSize;
  for (let from = 0; from < order.length; from += window) {
    const rows = order.subarray(from, from + window);
    const steps: number[][] = [];
    left = left.map((before, kind) => {
      const kept = [...before, ...rows.filter((row) => kindOf(row) === kind)];
      const whole = kept.splice(0, kept.length - (kept.length % batchSize));
      if (byLength) whole.sort((a, b) => lengthOf(b) - lengthOf(a));
      for (let at = 0; at < whole.length; at += batchSize) steps.push(whole.slice(at, at + batchSize));
      return kept;
    });
    for (const step of random.shuffle(steps)) result.push(...step);
  }
  return Uint32Array.from([...result, ...left.flat()]);
}
