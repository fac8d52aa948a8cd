import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll } from 'vitest';
import { saveCheckpoint } from '../../src/model/checkpoint.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import type { Message } from '../../src/processor/message.ts';
import { Processor } from '../../src/processor/processor.ts';
import { wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';

const words = 'what is the colour of this shape red blue green circle square yes no a b c d e f g ? . ,'.split(' ');

const tower = { hiddenSize: 16, intermediateSize: 24, numHiddenLayers: 1, numAttentionHeads: 2, imageSize: 16 };
const towers = { 'conv-vit': { ...tower, stemChannels: [4, 8, 8] }, siglip: { ...tower, patchSize: 8 } };

/** What to make; transformers has no conv-vit. */
interface TinyModelOptions {
  readonly seed?: number;
  readonly contextTokens?: number;
  readonly vision?: keyof typeof towers;
  /** Settings of the language model beside the usual ones, a Llama's. */
  readonly language?: Readonly<Record<string, unknown>>;
}

/** A random model of some thousand parameters with images of 16 x 16 that take 4 tokens each, and what prepares its inputs. */
export function tinyModel({ seed = 1, contextTokens = 256, vision = 'conv-vit', language = {} }: TinyModelOptions = {}): {
  model: TinyLlava;
  processor: Processor;
} {
  const tokenizer = wordLevelTokenizer(words);
  const image = new ImageProcessor({ size: { height: 16, width: 16 }, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] });
  const model = createTinyLlava({
    vision: { type: vision, ...towers[vision] },
    connector: { type: 'mlp' },
    language: {
      type: 'llama',
      vocabSize: tokenizer.size,
      hiddenSize: 32,
      intermediateSize: 48,
      numHiddenLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      maxPositionEmbeddings: contextTokens,
      // Wide weights: answers of a model at its usual start hardly depend on the question.
      initializerRange: 0.4,
      ...language,
    },
    imageTokenId: tokenizer.requireId('<image>'),
  });
  model.initialize(new Generator(seed));
  return { model, processor: new Processor({ tokenizer, image, template: 'tiny', imageTokens: model.imageTokens }) };
}

/** Runs the tests of a file on one thread: on tensors this small more of them only wait for each other. */
export function onOneThread(): void {
  const before = threads();
  beforeAll(() => setThreads(1));
  afterAll(() => setThreads(before));
}

/** A PNG of one colour with a lighter square in it. */
export async function picture(hue: number, side = 20): Promise<Uint8Array> {
  const background = { r: (hue * 67) % 256, g: (hue * 131) % 256, b: (hue * 29) % 256 };
  const square = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#eeeeee' } })
    .png()
    .toBuffer();
  return sharp({ create: { width: side, height: side, channels: 3, background } })
    .composite([{ input: square, left: hue % 11, top: (hue * 5) % 11 }])
    .png()
    .toBuffer();
}

/** One turn of a user. */
export const ask = (text: string): Message[] => [{ role: 'user', content: text }];

/** Saves a tiny model as a checkpoint folder, which `remove` takes away. */
export async function tinyCheckpoint(options: TinyModelOptions = {}): Promise<{ folder: string; remove: () => void }> {
  const { model, processor } = tinyModel(options);
  const root = mkdtempSync(join(tmpdir(), 'tinyllava-'));
  const folder = join(root, 'model');
  await saveCheckpoint(folder, model);
  await processor.save(folder);
  return { folder, remove: () => rmSync(root, { recursive: true, force: true }) };
}
