import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { ask, bareQuestion, questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { capitalize } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { means } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task } from '../task.ts';
import { evalAiVerdict } from './viz-wiz.ts';
import { readJson } from './vqa-files.ts';

interface TextSample extends Sample {
  /** Words that an OCR system has read in the image. */
  readonly ocrTokens: string;
}

const Id = z.union([z.string(), z.number()]).transform(String);
const Question = z.looseObject({ question_id: z.string(), image: z.string(), text: z.string() });
const Truth = z.looseObject({
  data: z.array(z.looseObject({ question_id: Id, image_id: z.string(), question: z.string(), answers: z.array(z.string()) })),
});
const Row = z.looseObject({
  question_id: Id,
  image_id: z.string().optional(),
  question: z.string(),
  answers: z.array(z.string()).default([]),
  ocr_tokens: z.array(z.string()).default([]),
  image: z.string().optional(),
});

const tokensLine = /\nReference OCR token: ?(.*)$/s;

/** LLaVA's questions, named by their images, with the truth found by image and question. */
async function llavaSamples(file: string, truthFile: string, images: string): Promise<TextSample[]> {
  const { data } = await readJson(truthFile, Truth);
  const key = (image: string, question: string): string => `${image}\n${question.toLowerCase()}`;
  const truths = new Map(data.map((one) => [key(one.image_id, one.question), one]));
  const rows = await readRows(file, Question);
  return rows.map(({ question_id: image_id, image, text }) => {
    const bare = bareQuestion(text);
    const question = bare.replace(tokensLine, '');
    const truth = truths.get(key(image_id, question));
    if (!truth) throw new DataError(`${truthFile}: no answers to ${JSON.stringify(question)} about ${image_id}`);
    return {
      id: truth.question_id,
      sharedId: image_id,
      question,
      images: [join(images, image)],
      targets: truth.answers,
      category: 'all',
      ocrTokens: tokensLine.exec(bare)?.[1] ?? '',
    };
  });
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<TextSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, image_id, question, answers, ocr_tokens, image }) => ({
    id: question_id,
    ...(image_id !== undefined && { sharedId: image_id }),
    question,
    images: image === undefined ? [] : [image],
    targets: answers,
    category: 'all',
    ocrTokens: ocr_tokens.join(', '),
  }));
}

const files = published<TextSample>(
  ['textvqa', 'TextVQA'],
  [
    {
      layout: 'LLaVA',
      files: ['llava_textvqa_val_v051_ocr.jsonl', 'TextVQA_0.5.1_val.json', 'train_images/'],
      from: "LLaVA's eval.zip and textvqa.org/dataset",
      read: (found) => llavaSamples(found.one(0), found.one(1), found.one(2)),
    },
    {
      layout: 'lmms-eval',
      files: ['data/validation-*.parquet|validation-*.parquet'],
      from: 'huggingface.co/datasets/lmms-lab/textvqa',
      read: (found, options) => tableSamples(found.all(0), options),
    },
  ],
);

const withTokens = (question: string, tokens: string): string => `${question}\nReference OCR token: ${tokens}${shortAnswer}`;

/** Questions about text in images, without help. Singh et al. 2019, arXiv:1904.08920; 5000 in val. */
export const textVqa: Task<TextSample> = {
  name: 'textvqa',
  about: 'short answers that have to be read in the image; the model sees nothing but the image',
  maxNewTokens: 128,
  ...files,
  prompt: questionAnd(shortAnswer),
  score: evalAiVerdict,
  aggregate: (scored) => means(scored, { name: 'accuracy' }),
  lmmsEval: { stop: ['ASSISTANT:'], prompt: ({ images, question }) => ask(images, `${capitalize(question)}${shortAnswer}`) },
};

/** TextVQA with the words of an OCR system in the prompt, as LLaVA-1.5 and TinyLLaVA report it; some points higher for it. */
export const textVqaOcr: Task<TextSample> = {
  ...textVqa,
  name: 'textvqa-ocr',
  about: 'TextVQA with the words that an OCR system has read in the prompt, as LLaVA-1.5 and TinyLLaVA report it',
  prompt: ({ images, question, ocrTokens }) => ask(images, withTokens(question, ocrTokens)),
  lmmsEval: {
    stop: ['ASSISTANT:'],
    prompt: ({ images, question, ocrTokens }) => ask(images, withTokens(capitalize(question), ocrTokens)),
  },
};
