import { configFromJson, visionFromJson } from '../../src/model/hugging-face.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { Processor } from '../../src/processor/processor.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { published } from '../../test/model/published.ts';
import { publishedTowers } from '../../test/model/published-towers.ts';

/** A caption as LLaVA's 558,000 of the first stage have them, and a question. */
export const caption =
  'an orange disc with a dark rim on a pale blue ground, its shadow falling to the left across a wooden table in the evening';
export const question = 'What is the colour of the disc on the table?';

const clip = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] } as const;
const siglip = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;

const towers = {
  'SigLIP-so400m/14-384': { name: 'SigLIP-so400m/14 at 384; SigLIP 2 of fixed resolution', pixels: siglip },
  'CLIP-L/14-336': { name: 'CLIP-L/14 at 336', pixels: clip },
} as const;

const languages = {
  'TinyLlama-1.1B': 'TinyLlama/TinyLlama-1.1B-Chat-v1.0',
  'StableLM-2-1.6B': 'stabilityai/stablelm-2-zephyr-1_6b',
  'Phi-2': 'microsoft/phi-2',
} as const;

export type TowerName = keyof typeof towers;
export type LanguageName = keyof typeof languages;

/** The three language models of TinyLLaVA's paper (arXiv:2402.14289), each with its two towers. */
export const combinations: readonly (readonly [TowerName, LanguageName])[] = (Object.keys(towers) as TowerName[]).flatMap((tower) =>
  (Object.keys(languages) as LanguageName[]).map((language) => [tower, language] as const),
);

/**
 * A model of published sizes with a two-layer perceptron between its parts, without memory, and its processor: a small vocabulary of words, whose ids the
 * language model's own vocabulary, kept whole, has room for.
 */
export function fullSize(tower: TowerName, language: LanguageName): { model: TinyLlava; processor: Processor } {
  const { name, pixels } = towers[tower];
  const words = splitWords(`${caption} ${question} USER: ASSISTANT:`);
  const tokenizer = wordLevelTokenizer(words);
  const file = languages[language];
  const model = createTinyLlava({
    vision: visionFromJson(publishedTowers[name]?.json ?? {}, name),
    connector: { type: 'mlp' },
    language: configFromJson(published[file]?.json ?? {}, file).language,
    imageTokenId: tokenizer.requireId('<image>'),
  });
  const side = model.visionTower?.imageSize ?? 0;
  const image = new ImageProcessor({ size: { height: side, width: side }, aspect: 'pad', mean: [...pixels.mean], std: [...pixels.std] });
  return { model, processor: new Processor({ tokenizer, image, template: 'llama', imageTokens: model.imageTokens }) };
}
