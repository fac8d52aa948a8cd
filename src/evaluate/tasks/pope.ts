import { basename, join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { bootstrapped, type Values } from '../bootstrap.ts';
import { bareQuestion, questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { strip } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, Sample, Scored, Task, Verdict } from '../task.ts';

interface PopeSample extends Sample {
  /** The splits that the question is in; VLMEvalKit asks it once for all of them. */
  readonly splits: readonly string[];
}

const Question = z.looseObject({
  question_id: z.union([z.string(), z.number()]).transform(String),
  image: z.string(),
  text: z.string(),
  category: z.string(),
});
const Label = z.looseObject({ image: z.string(), text: z.string(), label: z.enum(['yes', 'no']) });
const Row = z.looseObject({
  question_id: z.union([z.string(), z.number()]).transform(String).optional(),
  index: z.string().optional(),
  question: z.string(),
  answer: z
    .string()
    .transform((text) => strip(text.toLowerCase()))
    .pipe(z.enum(['yes', 'no'])),
  category: z.string().optional(),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

const splitNames = ['adversarial', 'popular', 'random'];

/** What a question of a split is known by; LLaVA's file has a misspelling that later releases of the labels have mended. */
const key = (image: string, question: string): string => `${image}\n${question.replace('imange', 'image')}`;

/** LLaVA's questions with the labels of the benchmark, of the release that LLaVA took or of a later one. */
async function llavaSamples(questions: string, labelFiles: readonly string[], images: string): Promise<PopeSample[]> {
  const labels = new Map<string, ReadonlyMap<string, string>>();
  for (const [i, file] of labelFiles.entries()) {
    const rows = await readRows(file, Label);
    labels.set(splitNames[i] ?? '', new Map(rows.map(({ image, text, label }) => [key(image, text), label])));
  }
  const rows = await readRows(questions, Question);
  return rows.map(({ question_id, image, text, category }) => {
    const question = bareQuestion(text);
    const label = labels.get(category)?.get(key(image, question));
    if (label === undefined) {
      throw new DataError(`${questions}: question ${question_id} is not among the labels of split ${category}`, {
        hint: 'get coco_pope_adversarial.json, coco_pope_popular.json and coco_pope_random.json from github.com/AoiDragon/POPE (output/coco)',
      });
    }
    return { id: question_id, question, images: [join(images, image)], targets: [label], category, splits: [category] };
  });
}

async function tableSamples(files: readonly string[], options: { images?: boolean | undefined }): Promise<PopeSample[]> {
  const samples: PopeSample[] = [];
  for (const file of files) {
    const rows = await tableRows([file], Row, options);
    const named = splitNames.find((split) => basename(file).includes(split)) ?? 'all';
    for (const { question_id, index, question, answer, category = named, image = [] } of rows) {
      const bare = bareQuestion(question);
      const id = index ?? `${category}:${question_id ?? samples.length}`;
      const images = typeof image === 'string' ? [image] : image;
      const shared = index === undefined ? question_id : undefined;
      const splits = category.split(',').map((split) => split.trim());
      const other = splits.find((split) => split !== 'all' && !splitNames.includes(split));
      if (other !== undefined) {
        throw new DataError(`${file}: POPE has no split ${JSON.stringify(other)}`, { hint: "is the file another benchmark's?" });
      }
      samples.push({ id, sharedId: shared, question: bare, images, targets: [answer], category, splits });
    }
  }
  return samples;
}

/** The rule of the benchmark's authors: a `no` or `not` among the words of the first sentence is a no, everything else a yes. */
function officialVerdict({ targets }: Sample, answer: string): Verdict {
  const words = (answer.split('.')[0] ?? '').replaceAll(',', '').split(' ');
  const parsed = words.some((word) => word === 'No' || word === 'not' || word === 'no') ? 'no' : 'yes';
  const says = parsed === 'no' || /\byes\b/i.test(answer);
  return { parsed, score: parsed === targets[0] ? 1 : 0, ...(!says && { unparsed: true }) };
}

function exactVerdict({ targets }: Sample, answer: string): Verdict {
  const parsed = strip(answer.toLowerCase());
  return { parsed, score: parsed === targets[0] ? 1 : 0, ...(parsed !== 'yes' && parsed !== 'no' && { unparsed: true }) };
}

/** What could not be asked is wrong, whichever way. */
const said = ({ sample, parsed, error }: Scored<PopeSample>): string =>
  error === undefined ? parsed : sample.targets[0] === 'yes' ? 'no' : 'yes';

/** Adds an answer to the sums of a split. */
function addAnswer(split: string, one: Scored<PopeSample>, add: (sum: string, amount: number) => void): void {
  const [truth, answer] = [one.sample.targets[0], said(one)];
  add(`${split} n`, 1);
  add(`${split} right`, one.score);
  if (answer === 'yes') add(truth === 'yes' ? `${split} TP` : `${split} FP`, 1);
  if (answer === 'no') add(truth === 'yes' ? `${split} FN` : `${split} TN`, 1);
}

const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

function splitValues(sum: (name: string) => number, split: string, prefix = `${split} `): Values {
  const [tp, fp, fn] = [sum(`${split} TP`), sum(`${split} FP`), sum(`${split} FN`)];
  const [precision, recall] = [ratio(tp, tp + fp), ratio(tp, tp + fn)];
  const count = sum(`${split} n`);
  return [
    { name: `${prefix}accuracy`, value: ratio(sum(`${split} right`), count), count },
    { name: `${prefix}precision`, value: precision, count },
    { name: `${prefix}recall`, value: recall, count },
    { name: `${prefix}F1`, value: ratio(2 * precision * recall, precision + recall), count },
    { name: `${prefix}yes ratio`, value: ratio(tp + fp, count), count },
  ];
}

const splitsOf = (scored: readonly Scored<PopeSample>[]): string[] => [...new Set(scored.flatMap(({ sample }) => sample.splits))];

/** The metrics of each split, with those in front that `headline` makes of them. */
function aggregate(
  scored: readonly Scored<PopeSample>[],
  headline: (sum: (name: string) => number, splits: Values) => Values,
): readonly Metric[] {
  const splits = splitsOf(scored);
  return bootstrapped(scored, {
    sums(group, add) {
      for (const one of group) {
        for (const split of one.sample.splits) addAnswer(split, one, add);
        addAnswer('pooled', one, add);
      }
    },
    values(sum) {
      const perSplit = splits.flatMap((split) => splitValues(sum, split));
      return [...headline(sum, perSplit), ...perSplit];
    },
  });
}

function meanF1(sum: (name: string) => number, splits: Values): Values {
  const f1s = splits.filter(({ name }) => name.endsWith(' F1')).map(({ value }) => value);
  return [
    {
      name: 'mean F1',
      value: (f1s.reduce((all, value) => all + value, 0) / Math.max(1, f1s.length)) * 100,
      count: sum('pooled n'),
      max: 100,
    },
  ];
}

/** Polling for objects that are or are not in an image. Li et al. 2023, arXiv:2305.10355; 500 images of COCO val2014, three splits. */
export const pope: Task<PopeSample> = {
  name: 'pope',
  about: 'is there a … in the image? object hallucination, three splits; headline the mean of their F1',
  maxNewTokens: 128,
  ...published<PopeSample>(
    ['pope', 'POPE'],
    [
      {
        layout: 'LLaVA',
        files: [
          'llava_pope_test.jsonl',
          ...splitNames.map((split) => `coco/coco_pope_${split}.json|coco_pope_${split}.json`),
          'val2014/|images/',
        ],
        from: "LLaVA's eval.zip, github.com/AoiDragon/POPE (output/coco at e3e3926), and images.cocodataset.org/zips/val2014.zip",
        read: (found) =>
          llavaSamples(
            found.one(0),
            [1, 2, 3].map((i) => found.one(i)),
            found.one(4),
          ),
      },
      {
        layout: 'lmms-eval',
        files: ['Full/*.parquet|data/*.parquet|*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/POPE',
        read: (found, options) => tableSamples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['POPE.tsv'],
        from: "VLMEvalKit's POPE.tsv",
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(shortAnswer),
  score: officialVerdict,
  aggregate: (scored) => aggregate(scored, meanF1),
  counts(scored) {
    const counts = new Map<string, number>();
    const kinds = splitsOf(scored).flatMap((split) => ['TP', 'FP', 'TN', 'FN'].map((kind) => `${split} ${kind}`));
    for (const one of scored)
      for (const split of one.sample.splits) addAnswer(split, one, (name, more) => counts.set(name, (counts.get(name) ?? 0) + more));
    return Object.fromEntries(kinds.map((kind) => [kind, counts.get(kind) ?? 0]));
  },
  lmmsEval: { score: exactVerdict, aggregate: (scored) => aggregate(scored, (sum) => splitValues(sum, 'pooled', '')) },
};
