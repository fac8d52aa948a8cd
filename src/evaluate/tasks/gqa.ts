import { join } from 'node:path';
import { z } from 'zod';
import { grouped } from '../bootstrap.ts';
import { bareQuestion, questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { rstrip, withoutPunctuation } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { means, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Scored, Task } from '../task.ts';
import { readJson } from './vqa-files.ts';

interface GqaSample extends Sample {
  readonly structural?: string | undefined;
  readonly semantic?: string | undefined;
  /** Operations of the question's program that GQA counts as reasoning. */
  readonly steps?: string | undefined;
  /** The kind of thing asked for, within which GQA compares how often each answer is given. */
  readonly group?: string | undefined;
}

const Question = z.looseObject({ question_id: z.union([z.string(), z.number()]).transform(String), image: z.string(), text: z.string() });
const Truth = z.record(
  z.string(),
  z.looseObject({
    answer: z.string(),
    isBalanced: z.boolean().default(true),
    types: z.looseObject({ structural: z.string(), semantic: z.string() }).optional(),
    semantic: z.array(z.looseObject({ operation: z.string() })).default([]),
    groups: z.looseObject({ global: z.string().nullish() }).optional(),
  }),
);
const Row = z.looseObject({
  id: z.string(),
  imageId: z.string(),
  question: z.string(),
  answer: z.string(),
  types: z.looseObject({ structural: z.string().optional(), semantic: z.string().optional() }).optional(),
  image: z.string().optional(),
});
const Picture = z.looseObject({ id: z.string(), image: z.string().optional() });

/** How GQA's own evaluation counts steps: all operations but looking up whether a thing exists, and naming it. */
function steps(operations: readonly { readonly operation: string }[]): string {
  const count = operations.filter(
    ({ operation }) => !['exist', 'query: name', 'choose name'].some((easy) => operation.includes(easy)),
  ).length;
  return `${count} step${count === 1 ? '' : 's'}`;
}

async function llavaSamples(file: string, truthFile: string, images: string): Promise<GqaSample[]> {
  const truths = await readJson(truthFile, Truth);
  const rows = await readRows(file, Question);
  return rows.flatMap(({ question_id, image, text }): GqaSample[] => {
    const truth = truths[question_id];
    if (!truth?.isBalanced) return [];
    const { answer, types, semantic, groups } = truth;
    return [
      {
        id: question_id,
        question: bareQuestion(text),
        images: [join(images, image)],
        targets: [answer],
        category: types?.structural === 'query' ? 'open' : 'binary',
        structural: types?.structural,
        semantic: types?.semantic,
        steps: semantic.length === 0 ? undefined : steps(semantic),
        group: groups?.global ?? undefined,
      },
    ];
  });
}

/** Questions and images are two tables, joined by the image's id. */
async function tableSamples(questions: readonly string[], images: readonly string[], options: OpenOptions): Promise<GqaSample[]> {
  const pictures = options.images === false ? [] : await tableRows(images, Picture, options);
  const files = new Map(pictures.map(({ id, image }) => [id, image]));
  const rows = await tableRows(questions, Row, options);
  return rows.map(({ id, imageId, question, answer, types }) => ({
    id,
    question,
    images: [files.get(imageId) ?? imageId],
    targets: [answer],
    category: types?.structural === 'query' ? 'open' : 'binary',
    structural: types?.structural,
    semantic: types?.semantic,
  }));
}

/**
 * How far the answers' frequencies are from those of the truth: chi-square within each group of questions, averaged by the groups' sizes, over 100. GQA's own
 * evaluation; 0 is best. Undefined where the questions have no groups.
 */
function distribution(scored: readonly Scored<GqaSample>[]): number | undefined {
  const groups = grouped(
    scored.filter(({ sample }) => sample.group !== undefined),
    ({ sample }) => sample.group ?? '',
  );
  if (groups.size === 0) return undefined;
  let [sum, all] = [0, 0];
  for (const part of groups.values()) {
    const said = grouped(part, ({ parsed }) => parsed);
    let score = 0;
    for (const [truth, right] of grouped(part, ({ sample }) => sample.targets[0] ?? '')) {
      score += ((said.get(truth)?.length ?? 0) - right.length) ** 2 / right.length;
    }
    sum += score * part.length;
    all += part.length;
  }
  return sum / all / 100;
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
          'images/|data/images/',
        ],
        from: "LLaVA's eval.zip, and questions1.2.zip and images.zip from cs.stanford.edu/people/dorarad/gqa",
        read: (found) => llavaSamples(found.one(0), found.one(1), found.one(2)),
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
  aggregate: (scored) =>
    means(scored, {
      name: 'accuracy',
      by: [
        ({ category }) => category,
        ({ structural }) => prefixed('structural', structural),
        ({ semantic }) => prefixed('semantic', semantic),
        (sample) => sample.steps,
      ],
    }),
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

const prefixed = (kind: string, name: string | undefined): string | undefined => (name === undefined ? undefined : `${kind} ${name}`);
