import type { ReadyExample } from '../src/data/batch.ts';
import { Random } from '../src/data/random.ts';
import { wholeImage } from '../src/model/image-layout.ts';
import { createTinyLlava, type TinyLlava } from '../src/model/tinyllava.ts';
import { unlabelled } from '../src/processor/processor.ts';
import type { DType } from '../src/tensor/dtype.ts';
import { Generator } from '../src/tensor/random.ts';

/** Side and patch of the tower by the image tokens that they give. */
export const towers = { 196: { imageSize: 224, patchSize: 16 }, 729: { imageSize: 378, patchSize: 14 } } as const;

export const vocabSize = 49_152;
/** The placeholder's id among a word-level tokenizer's special tokens. */
const imageTokenId = 4;

/** A LLaVA of SmolLM2-135M's shape and a SigLIP-base tower, with random weights. */
export function smolLlava(imageTokens: keyof typeof towers, { dtype = 'float32' }: { dtype?: DType } = {}): TinyLlava {
  const model = createTinyLlava({
    vision: { type: 'siglip', ...towers[imageTokens], visionUseHead: false, featureLayer: -1 },
    connector: { type: 'mlp' },
    language: {
      type: 'llama',
      hiddenSize: 576,
      intermediateSize: 1536,
      numHiddenLayers: 30,
      numAttentionHeads: 9,
      numKeyValueHeads: 3,
      vocabSize,
      tieWordEmbeddings: true,
    },
    imageTokenId,
  });
  model.initialize(new Generator(1), { dtype });
  return model;
}

/** What learns in the second stage. */
export const instructed = { vision: { tune: 'frozen' }, connector: { tune: 'full' }, language: { tune: 'full' } } as const;

/** Random rows of an image and so many tokens of text, of which every second is supervised in spans; every image is another. */
export function randomRows(model: TinyLlava, { rows, text }: { rows: number; text: number }): ReadyExample[] {
  const random = new Random(1);
  const side = model.visionTower?.imageSize ?? 0;
  const placeholders = new Array<number>(model.imageTokens).fill(imageTokenId);
  return Array.from({ length: rows }, (_, row) => {
    const words = Array.from({ length: text }, () => imageTokenId + 1 + random.below(vocabSize - imageTokenId - 1));
    const labels = words.map((word, i) => (i % 64 < 32 ? unlabelled : word));
    const bytes = Uint8Array.from({ length: 3 * side * side }, () => random.below(256));
    return {
      name: `row ${row}`,
      ids: Int32Array.of(...placeholders, ...words),
      labels: Int32Array.of(...placeholders.map(() => unlabelled), ...labels),
      images: [{ bytes, layout: wholeImage }],
    };
  });
}
