import { join } from 'node:path';
import { type MicroBatchLimits, microBatches, microBatchLimits, pack, type ReadyExample, supervisedTokens } from '../src/data/batch.ts';
import { wholeImage } from '../src/model/image-layout.ts';
import type { TinyLlava } from '../src/model/tinyllava.ts';
import { ImageProcessor } from '../src/processor/image.ts';
import { openSafetensors } from '../src/tensor/safetensors.ts';
import type { Tensor } from '../src/tensor/tensor.ts';
import { AdamW } from '../src/train/adamw.ts';
import type { Optimizer } from '../src/train/optimizer.ts';
import { Masters, type Precision, precisions } from '../src/train/precision.ts';
import { type StepInput, trainStep } from '../src/train/step.ts';

const half: [number, number, number] = [0.5, 0.5, 0.5];

/** SigLIP's image settings at the side of a tower's input. */
export const imageProcessor = (side: number): ImageProcessor =>
  new ImageProcessor({ size: { height: side, width: side }, mean: half, std: half });

/** The rows of a file that `save_rows` of training.py wrote, in batches as it holds them. */
export function openRows(folder: string, { file = 'data', imageTokenId }: { file?: string; imageTokenId: number }): ReadyExample[][] {
  const data = openSafetensors(join(folder, `${file}.safetensors`));
  const integers = (name: string): Int32Array => Int32Array.from(data.tensor(name).toArray() as BigInt64Array, Number);
  const [ids, labels, images] = [integers('ids'), integers('labels'), data.tensor('pixels').unbind(0)];
  let at = 0;
  const rows = Array.from(integers('lengths'), (length, i): ReadyExample => {
    const own = ids.subarray(at, at + length);
    const image = own.includes(imageTokenId) ? images.shift() : undefined;
    const ready = image ? [{ bytes: image.toArray() as Uint8Array, layout: wholeImage }] : [];
    const row = { name: `row ${i}`, ids: own, labels: labels.subarray(at, at + length), images: ready };
    at += length;
    return row;
  });
  return Array.from(integers('batches'), (size) => rows.splice(0, size));
}

/** The micro-batches that training makes unless told otherwise. */
export const ownLimits = ({ languageModel }: TinyLlava, precision: Precision): MicroBatchLimits =>
  microBatchLimits(undefined, { languageModel, compute: precisions[precision].compute, device: 'cpu', sharded: false });

/** One step's rows, together unless there are limits; `encode` gives what the frozen tower makes of the images, to be freed behind each micro-batch. */
export const featuresInput = (
  rows: readonly ReadyExample[],
  encode: (images: readonly Uint8Array[]) => Tensor,
  limits: MicroBatchLimits = { examples: rows.length },
): StepInput => ({
  supervisedTokens: supervisedOf(rows),
  *batches() {
    for (const together of microBatches(rows, limits)) {
      const images = together.flatMap((row) => row.images.map(({ bytes }) => bytes));
      const towerFeatures = images.length > 0 ? encode(images) : undefined;
      yield { ...pack(together), towerFeatures };
      towerFeatures?.free();
    }
  },
});

/** One step's rows as one batch, with pixels that are made once. */
export function pixelsInput(rows: readonly ReadyExample[], image: ImageProcessor): StepInput {
  const batch = { ...pack(rows), pixels: image.stack(rows.flatMap((row) => row.images.map(({ bytes }) => bytes))) };
  return { supervisedTokens: supervisedOf(rows), batches: () => [batch] };
}

const supervisedOf = (rows: readonly ReadyExample[]): number => rows.reduce((sum, { labels }) => sum + supervisedTokens(labels), 0);

/** What a stage trains and how. */
export interface TrainingOptions {
  readonly stage: string;
  readonly precision?: Precision;
  readonly learningRate: number;
  readonly weightDecay?: number;
}

/** Training of a model as a stage does it: the connector learns, in `instruct` the language model too, and in `whole` everything. */
export class Training {
  readonly losses: number[] = [];
  readonly optimizer: Optimizer;
  readonly #model: TinyLlava;

  constructor(model: TinyLlava, { stage, precision = 'float32', learningRate, weightDecay = 0 }: TrainingOptions) {
    if (stage === 'whole') model.trainable();
    else model.connector?.trainable();
    if (stage === 'instruct') model.languageModel.trainable();
    const masters = new Masters(model, precision).beside;
    const parameters = new Map([...model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad));
    this.#model = model;
    this.optimizer = new AdamW([{ parameters, learningRate, weightDecay }], { betas: [0.9, 0.999], eps: 1e-8, masters });
  }

  step(input: StepInput): void {
    this.losses.push(trainStep(this.#model, this.optimizer, input, { factor: 1, maxGradNorm: 1 }).loss);
  }
}
