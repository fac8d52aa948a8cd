import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { saveCheckpoint } from '../../src/model/checkpoint.ts';
import type { PartConfig } from '../../src/model/part.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

const references = join(import.meta.dirname, '../reference');

/** Tokenizers of the references, by their kind. */
export const tokenizers = {
  bytes: 'processor-tokenizer-byte-level',
  pieces: 'processor-tokenizer-prepend',
  metaspace: 'processor-tokenizer-metaspace',
  words: 'processor-tokenizer-words',
};

/** A folder that is gone after the tests of a file. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tinyllava-export-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A copy of a reference's folder with a tokenizer in it. */
export function withTokenizer(name: string, scratch: string, kind: keyof typeof tokenizers = 'bytes'): string {
  const folder = join(scratch, `${name}-${kind}`);
  cpSync(join(references, name), folder, { recursive: true });
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) cpSync(join(references, tokenizers[kind], file), join(folder, file));
  return folder;
}

/** A random language model in a folder, with a tokenizer. */
export async function languageFolder(folder: string, language: PartConfig, kind: keyof typeof tokenizers = 'pieces'): Promise<TinyLlava> {
  const tokenizer = await Tokenizer.open(join(references, tokenizers[kind]));
  const model = createTinyLlava({
    language: { vocabSize: tokenizer.size, ...(language.type !== 'openelm' && { initializerRange: 0.2 }), ...language },
  }).initialize(new Generator(3));
  await saveCheckpoint(folder, model);
  await tokenizer.save(folder);
  return model;
}

/** What a model is made of, without its vocabulary. */
export interface Tiny {
  readonly vision: PartConfig;
  readonly connector: PartConfig;
  readonly language?: PartConfig;
}

export const vit = { hiddenSize: 64, intermediateSize: 48, numHiddenLayers: 2, numAttentionHeads: 1, imageSize: 12, patchSize: 4 };
export const llama = { type: 'llama', hiddenSize: 64, intermediateSize: 48, numHiddenLayers: 1, numAttentionHeads: 2 };

/** A random model in a folder, with a tokenizer that has no token for images, and what it makes of an image between words. */
export async function tinyFolder(
  folder: string,
  { vision, connector, language = llama }: Tiny,
  { rows = 3 } = {},
): Promise<{ model: TinyLlava; logits: (model: TinyLlava) => Tensor }> {
  const { json, config } = (await Tokenizer.open(join(references, tokenizers.bytes))).files;
  const tokenizer = new Tokenizer({
    json: { ...json, added_tokens: json.added_tokens.filter(({ content }) => content !== '<image>') },
    config,
  });
  const model = createTinyLlava({
    vision,
    connector,
    language: { ...language, vocabSize: tokenizer.size + rows },
    imageTokenId: tokenizer.size,
  }).initialize(new Generator(1));
  await saveCheckpoint(folder, model);
  mkdirSync(folder, { recursive: true });
  await tokenizer.save(folder);
  const side = model.visionTower?.imageSize ?? 0;
  await new ImageProcessor({ size: { height: side, width: side }, mean: [0.5, 0.4, 0.3] }).save(folder);
  const pixels = randn([1, 3, side, side], { generator: new Generator(2) });
  return { model, logits: (other) => logitsOf(other, pixels) };
}

/** The scores behind two words, an image and two words, for the words that all vocabularies here have. */
function logitsOf(model: TinyLlava, pixels: Tensor): Tensor {
  const image = new Array<number>(model.imageTokens).fill(model.config.imageTokenId ?? 0);
  const ids = Int32Array.from([3, 4, ...image, 5, 6]);
  return model.logits(model.hidden({ ids, lengths: [ids.length], pixels })).narrow(1, 0, 30);
}
