import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { bareQuestion, questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { rstrip, split, withoutPunctuation } from '../python.ts';
import { pythonList } from '../python-list.ts';
import { readRows } from '../questions-file.ts';
import { verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Task } from '../task.ts';
import { distribution, type GqaSample, gqaMetrics, gqaNotes } from './gqa-measures.ts';
import { readJson } from './vqa-files.ts';

const Question = z.looseObject({ question_id: z.union([z.string(), z.number()]).transform(String), image: z.string(), text: z.string() });
/** What is known of a question's structure; the Parquet files have all of it or the types alone. */
const Structure = {
  types: z.looseObject({ structural: z.string().nullish(), semantic: z.string().nullish(), detailed: z.string().nullish() }).optional(),
  semantic: z
    .array(z.looseObject({ operation: z.string(), argument: z.string().nullish() }))
    .nullish()
    .transform((operations) => operations ?? []),
  groups: z.looseObject({ global: z.string().nullish() }).optional(),
};
const Truth = z.record(
  z.string(),
  z.looseObject({
    question: z.string().optional(),
    imageId: z.union([z.string(), z.number()]).transform(String).optional(),
    answer: z.string(),
    isBalanced: z.boolean().default(true),
    ...Structure,
    entailed: z.array(z.string()).default([]),
  }),
);
type Truth = z.output<typeof Truth>[string];
const Choices = z.record(z.string(), z.looseObject({ valid: z.array(z.string()), plausible: z.array(z.string()) }));
type Choices = z.output<typeof Choices>;
const Row = z.looseObject({
  id: z.string(),
  imageId: z.string(),
  question: z.string(),
  answer: z.string(),
  isBalanced: z.boolean().default(true),
  ...Structure,
  /** A list as Python writes it. */
  entailed: z
    .union([z.string().transform(pythonList), z.array(z.string())])
    .nullish()
    .transform((ids) => ids ?? []),
  image: z.string().optional(),
});
const Picture = z.looseObject({ id: z.string(), image: z.string().optional() });

/** How GQA's own evaluation counts steps: all operations but looking up whether a thing exists, and naming it. */
function steps(operations: Truth['semantic']): string {
  const easy = ['exist', 'query: name', 'choose name'];
  const count = operations.filter(({ operation, argument }) => !easy.some((one) => `${operation}: ${argument ?? ''}`.includes(one))).length;
  return `${count} step${count === 1 ? '' : 's'}`;
}

/** What a question's entry says of it, but for what is asked. */
function annotated(
  id: string,
  text: string,
  {
    answer,
    isBalanced,
    types,
    semantic,
    groups,
    entailed,
  }: Pick<Truth, 'answer' | 'isBalanced' | 'types' | 'semantic' | 'groups' | 'entailed'>,
  choices?: Choices[string],
): Omit<GqaSample, 'question' | 'images'> {
  const words = split(text).length;
  // Of what two things have in common GQA takes the kind, whatever the choices say.
  const common = types?.detailed?.includes('Common') ? ['color', 'material', 'shape'] : undefined;
  return {
    id,
    targets: [answer],
    category: types?.structural === 'query' ? 'open' : 'binary',
    balanced: isBalanced,
    structural: types?.structural ?? undefined,
    semantic: types?.semantic ?? undefined,
    steps: semantic.length === 0 ? undefined : steps(semantic),
    words: `${words} word${words === 1 ? '' : 's'}`,
    group: groups?.global ?? undefined,
    entailed: entailed.filter((other) => other !== id),
    valid: choices && (common ?? choices.valid),
    plausible: choices && (common ?? choices.plausible),
  };
}

/** The choices for every question of a file, none where that file is not there. Throws DataError where they are of other questions. */
async function choicesOf(file: string, ids: readonly string[]): Promise<Choices> {
  if (file === '') return {};
  const choices = await readJson(file, Choices);
  const lacking = ids.find((id) => !(id in choices));
  if (lacking !== undefined) throw new DataError(`${file}: no choices for question ${lacking}`, { hint: 'is it of the same split?' });
  return choices;
}

async function llavaSamples(file: string, truthFile: string, choiceFile: string, images: string): Promise<GqaSample[]> {
  const truths = await readJson(truthFile, Truth);
  const rows = (await readRows(file, Question)).filter(({ question_id }) => truths[question_id]?.isBalanced);
  const choices = await choicesOf(
    choiceFile,
    rows.map(({ question_id }) => question_id),
  );
  return rows.flatMap(({ question_id, image, text }): GqaSample[] => {
    const truth = truths[question_id];
    const question = bareQuestion(text);
    if (!truth) return [];
    return [
      { ...annotated(question_id, truth.question ?? question, truth, choices[question_id]), question, images: [join(images, image)] },
    ];
  });
}

/** GQA's own file of questions; with all of them, not the balanced ones alone, consistency can be told. */
async function ownSamples(file: string, choiceFile: string, images: string): Promise<GqaSample[]> {
  const truths = await readJson(file, Truth);
  const choices = await choicesOf(choiceFile, Object.keys(truths));
  return Object.entries(truths).map(([id, truth]) => {
    const { question, imageId } = truth;
    if (question === undefined || imageId === undefined) throw new DataError(`${file}: ${id}: no question or no imageId`);
    return { ...annotated(id, question, truth, choices[id]), question, images: [join(images, `${imageId}.jpg`)] };
  });
}

/** Questions and images are two tables, joined by the image's id. */
async function tableSamples(questions: readonly string[], images: readonly string[], options: OpenOptions): Promise<GqaSample[]> {
  const pictures = options.images === false ? [] : await tableRows(images, Picture, options);
  const files = new Map(pictures.map(({ id, image }) => [id, image]));
  const rows = await tableRows(questions, Row, options);
  return rows.map(({ imageId, ...row }) => ({
    ...annotated(row.id, row.question, row),
    question: row.question,
    images: [files.get(imageId) ?? imageId],
  }));
}

const alike = (text: string): string => withoutPunctuation(text.toLowerCase());

/** Compositional questions about scenes. Hudson and Manning 2019, arXiv:1902.09506; 12578 in testdev_balanced. */
export const gqa: Task<GqaSample> = {
  name: 'gqa',
  about: 'one word about relations and attributes in photographs (testdev, balanced)',
  maxNewTokens: 128,
  ...published<GqaSample>(
    ['gqa', 'GQA'],
    [
      {
        layout: 'LLaVA',
        files: [
          'llava_gqa_testdev_balanced.jsonl',
          'testdev_balanced_questions.json|data/testdev_balanced_questions.json',
          '?testdev_choices.json|eval/testdev_choices.json',
          'images/|data/images/',
        ],
        from: "LLaVA's eval.zip, and questions1.2.zip and images.zip from cs.stanford.edu/people/dorarad/gqa",
        read: (found) => llavaSamples(found.one(0), found.one(1), found.one(2), found.one(3)),
      },
      {
        layout: 'GQA',
        files: ['testdev_all_questions.json|testdev_balanced_questions.json', '?testdev_choices.json|eval/testdev_choices.json', 'images/'],
        from: 'questions1.2.zip and images.zip from cs.stanford.edu/people/dorarad/gqa; all questions are asked where they are there, for consistency',
        read: (found) => ownSamples(found.one(0), found.one(1), found.one(2)),
      },
      {
        layout: 'GQA',
        files: ['val_balanced_questions.json', '?val_choices.json|eval/val_choices.json', 'images/'],
        from: 'questions1.2.zip, images.zip and eval.zip from cs.stanford.edu/people/dorarad/gqa',
        read: (found) => ownSamples(found.one(0), found.one(1), found.one(2)),
      },
      {
        layout: 'lmms-eval',
        files: ['testdev_balanced_instructions/*.parquet', 'testdev_balanced_images/*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/GQA',
        read: (found, options) => tableSamples(found.all(0), found.all(1), options),
      },
    ],
  ),
  prompt: questionAnd(shortAnswer),
  score({ targets }, answer) {
    // What LLaVA uploads, compared as GQA's evaluation does.
    const parsed = rstrip(answer, '.').toLowerCase();
    return verdict(parsed, parsed === targets[0]);
  },
  aggregate: gqaMetrics,
  notes: gqaNotes,
  counts(scored) {
    const value = distribution(scored);
    return value === undefined ? {} : { distribution: value };
  },
  submission: (scored) =>
    scored.map(({ sample, answer = '' }) => ({ questionId: sample.id, prediction: rstrip(answer, '.').toLowerCase() })),
  lmmsEval: {
    maxNewTokens: 16,
    score({ targets }, answer) {
      const parsed = alike(answer);
      return verdict(parsed, parsed === alike(targets[0] ?? ''));
    },
  },
};
