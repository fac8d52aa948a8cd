import { join } from 'node:path';
import { z } from 'zod';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { strip } from '../python.ts';
import { pythonList } from '../python-list.ts';
import { readRows } from '../questions-file.ts';
import { mean, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task } from '../task.ts';

interface OcrSample extends Sample {
  /** The data set that the question was made of; HME100k is of formulas. */
  readonly source: string;
}

const recognition = [
  'Regular Text Recognition',
  'Irregular Text Recognition',
  'Artistic Text Recognition',
  'Handwriting Recognition',
  'Digit String Recognition',
  'Non-Semantic Text Recognition',
];
const others = [
  'Scene Text-centric VQA',
  'Doc-oriented VQA',
  'Key Information Extraction',
  'Handwritten Mathematical Expression Recognition',
];

const Some = z.union([z.string().transform((one) => [one]), z.array(z.string()), z.number().transform((one) => [String(one)])]);
const Id = z.union([z.string(), z.number()]).transform(String);
const Own = z.looseObject({
  dataset_name: z.string(),
  id: Id.optional(),
  image_path: z.string(),
  question: z.string(),
  answers: Some,
  type: z.string(),
});
const Row = z.looseObject({
  index: Id.optional(),
  dataset: z.string().optional(),
  question: z.string(),
  question_type: z.string().optional(),
  category: z.string().optional(),
  answer: Some,
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

async function ownSamples(file: string, images: string): Promise<OcrSample[]> {
  const rows = await readRows(file, Own);
  return rows.map(({ dataset_name, image_path, question, answers, type }, i) => ({
    id: String(i),
    question: strip(question),
    images: [join(images, image_path)],
    targets: answers,
    category: type,
    source: dataset_name,
  }));
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<OcrSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ index, dataset, question, question_type, category, answer, image = [] }, i) => {
    const kind = question_type ?? category ?? '';
    const [first = ''] = answer;
    return {
      id: index ?? String(i),
      question: strip(question),
      images: typeof image === 'string' ? [image] : image,
      targets: answer.length === 1 && dataset === undefined && first.startsWith('[') ? pythonList(first) : answer,
      category: kind,
      source: dataset ?? (kind === 'Handwritten Mathematical Expression Recognition' ? 'HME100k' : ''),
    };
  });
}

const formula = (text: string): string => strip(text).replaceAll('\n', ' ').replaceAll(' ', '');
const plain = (text: string): string => strip(text.toLowerCase()).replaceAll('\n', ' ');

/** ASCII for its forms of full width. */
const narrow = (text: string): string =>
  text.replace(/[\uff01-\uff5e]/g, (wide) => String.fromCharCode(wide.charCodeAt(0) - 0xfee0)).replaceAll('\u3000', ' ');

const found = (sample: OcrSample, answer: string, alike: (text: string) => string) => {
  const form = sample.source === 'HME100k' ? formula : alike;
  const parsed = form(answer);
  return verdict(
    parsed,
    sample.targets.some((target) => parsed.includes(form(target))),
  );
};

function aggregate(scored: readonly Scored<OcrSample>[]): readonly Metric[] {
  // Points are right answers; the published set has 1000 questions.
  const points = (name: string, part: readonly Scored<OcrSample>[]): Metric => ({
    ...mean(name, part, part.length),
    value: part.reduce((sum, { score }) => sum + score, 0),
  });
  const of = (names: readonly string[]): Scored<OcrSample>[] => scored.filter(({ sample }) => names.includes(sample.category));
  const parts: readonly (readonly [string, readonly string[]])[] = [
    ['text recognition', recognition],
    ...[...recognition, ...others].map((name) => [name, [name]] as const),
  ];
  return [points('final score', scored), ...parts.flatMap(([name, names]) => (of(names).length === 0 ? [] : [points(name, of(names))]))];
}

/** Reading of ten kinds. Liu et al. 2023, arXiv:2305.07895; 1000 questions, a point each. */
export const ocrBench: Task<OcrSample> = {
  name: 'ocrbench',
  about: 'reading text, receipts, documents and formulas; points out of 1000',
  maxNewTokens: 128,
  ...published<OcrSample>(
    ['ocrbench', 'OCRBench'],
    [
      {
        layout: 'OCRBench',
        files: ['OCRBench.json|OCRBench/OCRBench.json', 'OCRBench_Images/'],
        from: 'github.com/Yuliang-Liu/MultimodalOCR',
        read: (found) => ownSamples(found.one(0), found.one(1)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/echo840/OCRBench',
        read: (found, options) => tableSamples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['OCRBench.tsv'],
        from: "VLMEvalKit's OCRBench.tsv",
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(''),
  score: (sample, answer) => found(sample, answer, plain),
  aggregate,
  lmmsEval: { score: (sample, answer) => found(sample, answer, (text) => plain(narrow(text))) },
};
