import { DataError } from '../errors.ts';
import type { PlacedImage, Processor } from '../processor/processor.ts';
import { outliving } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Batch, type MicroBatchLimits, microBatches, pack, type ReadyExample, type ReadyImage, supervisedTokens } from './batch.ts';
import { type Dealing, deal } from './deal.ts';
import { ImagePool, type ImagePoolOptions } from './image-pool.ts';
import type { RowSource } from './rows.ts';
import type { Sampler, SamplerState } from './sampler.ts';

/** What a loader reads and how. */
export interface LoaderOptions extends ImagePoolOptions {
  readonly rows: RowSource;
  readonly processor: Processor;
  readonly sampler: Sampler;
  readonly microBatch: MicroBatchLimits;
  /** The most tokens of a conversation; longer ones are cut. */
  readonly maxLength?: number;
  /** Steps to have ready while one is used. */
  readonly prefetch?: number;
  /** How many will be asked for, so that nothing is read behind the last one. */
  readonly steps?: number;
  /** What happens to rows that cannot be used: an unreadable image, a wrong role, nothing to learn. */
  readonly unusable?: 'stop' | 'skip';
  /** Only one process's share of each step. */
  readonly share?: Dealing;
  /** Makes the vision tower's features [V, N, C] of views' bytes; without it a batch has their pixels. */
  readonly encode?: ((images: readonly Uint8Array[]) => Tensor) | undefined;
}

/** A row that could not be used, and why. */
export interface SkippedRow {
  readonly row: number;
  readonly reason: string;
}

interface StepContext {
  readonly state: SamplerState;
  readonly processor: Processor;
  readonly microBatch: MicroBatchLimits;
  readonly skipped: readonly SkippedRow[];
  readonly encode: LoaderOptions['encode'];
}

/** The conversations of one optimizer step. */
export class StepData {
  /** Where the sampler stands after this step: what to save with a checkpoint for going on exactly here. */
  readonly state: SamplerState;
  readonly examples: number;
  readonly tokens: number;
  /** Over all micro-batches: what the summed loss is divided by. */
  readonly supervisedTokens: number;
  /** Conversations that were longer than `maxLength`. */
  readonly cut: number;
  /** Rows that could not be used, by the policy `skip`; there may be no others. */
  readonly skipped: readonly SkippedRow[];
  readonly #groups: readonly ReadyExample[][];
  readonly #processor: Processor;
  readonly #encode: LoaderOptions['encode'];

  constructor(examples: readonly ReadyExample[], { state, processor, microBatch, skipped, encode }: StepContext) {
    this.state = state;
    this.skipped = skipped;
    this.examples = examples.length;
    this.tokens = examples.reduce((sum, { ids }) => sum + ids.length, 0);
    this.supervisedTokens = examples.reduce((sum, { labels }) => sum + supervisedTokens(labels), 0);
    this.cut = examples.filter(({ cut }) => cut).length;
    this.#groups = microBatches(examples, microBatch);
    this.#processor = processor;
    this.#encode = encode;
  }

  get microBatches(): number {
    return this.#groups.length;
  }

  /** Whether each micro-batch has images. */
  get pictured(): readonly boolean[] {
    return this.#groups.map((group) => group.some(({ images }) => images.length > 0));
  }

  /** The micro-batches in order. Their pixels, or features, are made when one is taken and freed when the next is. */
  *batches(): Generator<Batch, void, undefined> {
    for (const group of this.#groups) {
      const images = group.flatMap((example) => example.images);
      const bytes = images.map((image) => image.bytes);
      const views = images.length > 0 ? (this.#encode?.(bytes) ?? outliving(() => this.#processor.image.stack(bytes))) : undefined;
      try {
        const layouts = images.map(({ layout }) => layout);
        yield { ...pack(group), ...(views && { [this.#encode ? 'towerFeatures' : 'pixels']: views, layouts }) };
      } finally {
        views?.free();
      }
    }
  }
}

/** Reads rows ahead of their use: tokens in this thread, images in others. Steps come in the sampler's order whatever finishes first. */
export class Loader implements AsyncDisposable {
  readonly #options: LoaderOptions;
  readonly #pool: ImagePool;
  readonly #ahead: Promise<StepData>[] = [];
  #begun = 0;
  #closed = false;

  constructor(options: LoaderOptions) {
    this.#options = options;
    this.#pool = new ImagePool(options.processor.image, options);
  }

  /** The next step. Throws DataError naming the row that cannot be used, in the step that it belongs to. */
  async next(): Promise<StepData> {
    this.#fill();
    const step = await this.#ahead.shift();
    if (!step) throw new DataError('the loader was closed');
    this.#fill();
    return step;
  }

  /** Ends all reading. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.close();
    await Promise.allSettled(this.#ahead.splice(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #fill(): void {
    const { sampler, prefetch = 2, steps = Number.POSITIVE_INFINITY } = this.#options;
    while (!this.#closed && this.#ahead.length <= prefetch && this.#begun < steps) {
      this.#begun++;
      const step = this.#prepare(sampler.next(), sampler.state);
      step.catch(() => {}); // it is reported by the `next` that takes it
      this.#ahead.push(step);
    }
  }

  async #prepare(rows: Uint32Array, state: SamplerState): Promise<StepData> {
    const { processor, microBatch, encode, share = { rank: 0, size: 1 } } = this.#options;
    const found = await Promise.all(Array.from(deal(rows, share), (row) => this.#example(row)));
    const skipped = found.filter((row): row is SkippedRow => 'reason' in row);
    return new StepData(
      found.filter((row): row is ReadyExample => !('reason' in row)),
      { state, processor, microBatch, skipped, encode },
    );
  }

  async #example(index: number): Promise<ReadyExample | SkippedRow> {
    const { unusable = 'stop' } = this.#options;
    try {
      return await this.#read(index);
    } catch (error) {
      if (!(error instanceof DataError) || unusable === 'stop') throw error;
      return { row: index, reason: error.message };
    }
  }

  async #read(index: number): Promise<ReadyExample> {
    const { rows, processor, maxLength = Number.POSITIVE_INFINITY } = this.#options;
    const { name, messages } = await rows.row(index);
    try {
      const whole = await processor.read(messages, { train: true });
      const { ids, labels, images } = processor.truncate(whole, maxLength);
      if (supervisedTokens(labels) === 0) {
        throw new DataError(`nothing is learned from its ${ids.length} tokens`, {
          hint: 'raise maxLength if it is cut before the answer, or remove the row',
        });
      }
      const load = async ({ source, layout }: PlacedImage): Promise<ReadyImage> => ({
        bytes: await this.#pool.load(source, layout),
        layout,
      });
      return { name, ids, labels, images: await Promise.all(images.map(load)), cut: ids.length < whole.ids.length };
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      throw new DataError(`${name}: ${error.message}`, { ...(error.hint !== undefined && { hint: error.hint }), cause: error });
    }
  }
}
