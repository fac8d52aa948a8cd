import { basename, join } from 'node:path';
import { z } from 'zod';
import { questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { length, levenshtein, split } from '../python.ts';
import { pythonList } from '../python-list.ts';
import { means } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task } from '../task.ts';
import { readJson } from './vqa-files.ts';

const Id = z.union([z.string(), z.number()]).transform(String);
const Whole = z.looseObject({
  data: z.array(
    z.looseObject({
      questionId: Id,
      question: z.string(),
      image: z.string().optional(),
      image_local_name: z.string().optional(),
      answers: z.array(z.string()).default([]),
    }),
  ),
});
const Row = z.looseObject({
  questionId: Id.optional(),
  index: z.string().optional(),
  question: z.string(),
  answers: z.array(z.string()).nullish(),
  answer: z.string().optional(),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

async function ownSamples(file: string, images: string): Promise<Sample[]> {
  const { data } = await readJson(file, Whole);
  return data.map(({ questionId, question, image, image_local_name, answers }) => ({
    id: questionId,
    question,
    images: [join(images, image_local_name ?? basename(image ?? ''))],
    targets: answers,
    category: 'all',
  }));
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<Sample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ questionId, index, question, answers, answer, image = [] }, i) => ({
    id: questionId ?? index ?? String(i),
    question,
    images: typeof image === 'string' ? [image] : image,
    targets: answers ?? (answer === undefined ? [] : answer.startsWith('[') ? pythonList(answer) : [answer]),
    category: 'all',
  }));
}

/**
 * How near an answer is to the nearest truth: one less the edits for each character, 0 below a half. The lengths are those of the texts as they are, the edits
 * those without case and with single spaces. Biten et al. 2019, arXiv:1905.13648.
 */
export function anls(answer: string, truths: readonly string[]): number {
  const plain = (text: string): string => split(text.toLowerCase()).join(' ');
  const distances = truths.map((truth) => {
    const longest = Math.max(length(truth.toUpperCase()), length(answer.toUpperCase()));
    return longest === 0 ? 0 : levenshtein(plain(truth), plain(answer)) / longest;
  });
  const score = 1 - Math.min(...distances);
  return score < 0.5 ? 0 : score;
}

interface Place {
  readonly name: string;
  readonly about: string;
  readonly folders: readonly string[];
  readonly config: string;
  /** In the order in which they are looked for. */
  readonly splits: readonly Split[];
}

/** The files of a split in each form. */
interface Split {
  readonly own: readonly [questions: string, images: string];
  readonly parquet: 'validation' | 'test';
  readonly tsv: string;
}

/** A challenge of the Robust Reading Competition. */
function documentTask({ name, about, folders, config, splits }: Place): Task {
  return {
    name,
    about,
    maxNewTokens: 128,
    ...published<Sample>(
      folders,
      splits.flatMap(({ own, parquet, tsv }) => [
        {
          layout: 'RRC',
          files: own,
          from: 'rrc.cvc.uab.es (Document Visual Question Answering)',
          read: (found) => ownSamples(found.one(0), found.one(1)),
        },
        {
          layout: 'lmms-eval',
          files: [`${config}/${parquet}-*.parquet|${parquet}-*.parquet`],
          from: `huggingface.co/datasets/lmms-lab/DocVQA (config ${config}, split ${parquet})`,
          read: (found, options) => tableSamples(found.all(0), options),
        },
        {
          layout: 'VLMEvalKit',
          files: [tsv],
          from: `VLMEvalKit's ${tsv}`,
          read: (found, options) => tableSamples(found.all(0), options),
        },
      ]),
    ),
    prompt: questionAnd(shortAnswer),
    score: ({ targets }, answer) => ({ parsed: answer, score: targets.length === 0 ? 0 : anls(answer, targets) }),
    aggregate(scored) {
      const known = scored.filter(({ sample }) => sample.targets.length > 0);
      return known.length === 0 ? [] : means(known, { name: 'ANLS' });
    },
    submission: (scored) => scored.map(({ sample, answer = '' }) => ({ questionId: Number(sample.id), answer })),
    lmmsEval: { maxNewTokens: 32 },
  };
}

/** Questions about scanned documents. Mathew et al. 2021, arXiv:2007.00398; 5349 in val, 5188 in test, whose truth is with the competition's server. */
export const docVqa = documentTask({
  name: 'docvqa',
  about: 'short answers out of scanned documents, by edit distance (ANLS)',
  folders: ['docvqa', 'DocVQA'],
  config: 'DocVQA',
  splits: [
    {
      own: ['val_v1.0_withQT.json|val_v1.0.json|val/val_v1.0.json', 'documents/|val/documents/'],
      parquet: 'validation',
      tsv: 'DocVQA_VAL.tsv',
    },
    { own: ['test_v1.0.json|test/test_v1.0.json', 'documents/|test/documents/'], parquet: 'test', tsv: 'DocVQA_TEST.tsv' },
  ],
});

/** Questions about infographics. Mathew et al. 2022, arXiv:2104.12756; 2801 in val, 3288 in test, whose truth is with the competition's server. */
export const infoVqa = documentTask({
  name: 'infovqa',
  about: 'short answers out of infographics, by edit distance (ANLS)',
  folders: ['infovqa', 'InfoVQA'],
  config: 'InfographicVQA',
  splits: [
    {
      own: ['infographicsVQA_val_v1.0_withQT.json|infographicVQA_val_v1.0.json', 'images/|infographicsvqa_images/'],
      parquet: 'validation',
      tsv: 'InfoVQA_VAL.tsv',
    },
    {
      own: ['infographicsVQA_test_v1.0.json|infographicVQA_test_v1.0.json', 'images/|infographicsvqa_images/'],
      parquet: 'test',
      tsv: 'InfoVQA_TEST.tsv',
    },
  ],
});
