import type { ImageLayout } from '../model/image-layout.ts';
import type { LanguageModel } from '../model/language/language-model.ts';
import type { ModelBatch } from '../model/tinyllava.ts';
import { unlabelled } from '../processor/processor.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';

/** An image with the bytes of its views. */
export interface ReadyImage {
  readonly bytes: Uint8Array;
  readonly layout: ImageLayout;
}

/** A conversation with the row that it came from and its images' bytes, ready to be packed. */
export interface ReadyExample {
  readonly name: string;
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  readonly images: readonly ReadyImage[];
  /** Whether it was longer than is allowed. */
  readonly cut?: boolean;
}

/** Packed conversations with what is learned from them. */
export interface Batch extends ModelBatch {
  /** In the places of `ids`; -100 is not learned. */
  readonly labels: Int32Array;
  /** The rows that the sequences came from, as file#index. */
  readonly rows: readonly string[];
  /** The last sequence is of no row and teaches nothing: what a rank computes where others have more to do, or images. */
  readonly blank?: { readonly tokens: number; readonly views: number };
}

/** How many conversations share a micro-batch. */
export interface MicroBatchLimits {
  readonly examples: number;
  /** Stops before more tokens than this; a conversation that is longer has a micro-batch of its own. */
  readonly tokens?: number;
}

/** What goes through, and where; `compute` is the dtype of hidden states. */
interface MicroBatchSetting {
  readonly languageModel: Pick<LanguageModel, 'parameterCount'>;
  readonly compute: DType;
  readonly device: Device;
  readonly sharded: boolean;
}

/**
 * Limits for a micro-batch: so many conversations, or, unless given, as many as have the tokens beyond which nothing gets faster. Small models have more,
 * for what a pass costs whatever its length, and narrower dtypes, whose products are faster and have the same weights to lay out. Sharded ranks, which bring the model together for each, have one.
 */
export function microBatchLimits(
  examples: number | undefined,
  { languageModel, compute, device, sharded }: MicroBatchSetting,
): MicroBatchLimits {
  if (examples !== undefined || sharded) return { examples: examples ?? Number.POSITIVE_INFINITY };
  const fewest = device === 'cpu' ? (compute === 'float32' ? 512 : 2048) : 16_384;
  return { examples: Number.POSITIVE_INFINITY, tokens: Math.max(fewest, Math.floor(2 ** 32 / languageModel.parameterCount())) };
}

/** Splits the conversations of a step into micro-batches, in order. */
export function microBatches<Example extends { readonly ids: Int32Array }>(
  examples: readonly Example[],
  { examples: most, tokens = Number.POSITIVE_INFINITY }: MicroBatchLimits,
): Example[][] {
  const split: Example[][] = [];
  let room = 0;
  for (const example of examples) {
    const last = split.at(-1);
    if (last && last.length < most && example.ids.length <= room) last.push(example);
    else {
      split.push([example]);
      room = tokens;
    }
    room -= example.ids.length;
  }
  return split;
}

/** One behind the other, without padding; pixels are for the caller to add. */
export function pack(examples: readonly ReadyExample[]): Batch {
  const lengths = examples.map(({ ids }) => ids.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const [ids, labels] = [new Int32Array(total), new Int32Array(total)];
  let at = 0;
  for (const example of examples) {
    ids.set(example.ids, at);
    labels.set(example.labels, at);
    at += example.ids.length;
  }
  return { ids, labels, lengths, rows: examples.map(({ name }) => name) };
}

/** How many tokens of a sequence are learned; its first one never is, nothing predicts it. */
export function supervisedTokens(labels: Int32Array): number {
  return labels.reduce((count, label, i) => (i > 0 && label !== unlabelled ? count + 1 : count), 0);
}
