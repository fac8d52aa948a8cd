import { basename, join } from 'node:path';
import { z } from 'zod';
import { questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { float, rstrip } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { means, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task } from '../task.ts';

const Own = z.looseObject({ imgname: z.string(), query: z.string(), label: z.union([z.string(), z.number()]).transform(String) });
const Row = z.looseObject({
  index: z.string().optional(),
  question: z.string(),
  answer: z.union([z.string(), z.number()]).transform(String),
  type: z.string().optional(),
  split: z.string().optional(),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

/** The two halves of the test set: questions by people, and by machine. */
const half = (name: string): string => (name.includes('human') ? 'human' : 'augmented');

async function ownSamples(files: readonly string[], images: string): Promise<Sample[]> {
  const parts = await Promise.all(
    files.map(async (file) => {
      const category = half(basename(file));
      const rows = await readRows(file, Own);
      return rows.map(({ imgname, query, label }, i) => ({
        id: `${category}-${i}`,
        question: query,
        images: [join(images, imgname)],
        targets: [label],
        category,
      }));
    }),
  );
  return parts.flat();
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<Sample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ index, question, answer, type, split, image = [] }, i) => ({
    id: index ?? String(i),
    question,
    images: typeof image === 'string' ? [image] : image,
    targets: [answer],
    category: half(type ?? split ?? ''),
  }));
}

/** A number, a percentage as a share. */
function value(text: string): number | undefined {
  if (!text.endsWith('%')) return float(text);
  const number = float(rstrip(text, '%'));
  return number === undefined ? undefined : number / 100;
}

/** Within five percent of the truth where both are numbers (and the truth is not 0), else the same text but for case. Masry et al. 2022, section 5.1. */
export function relaxedMatch(answer: string, truth: string): boolean {
  const [said, right] = [value(answer), value(truth)];
  if (said !== undefined && right !== undefined && right !== 0) return Math.abs(said - right) / Math.abs(right) <= 0.05;
  return answer.toLowerCase() === truth.toLowerCase();
}

/** Questions about charts. Masry et al. 2022, arXiv:2203.10244; 2500 in test. */
export const chartQa: Task = {
  name: 'chartqa',
  about: 'numbers and short words from charts, numbers right within five percent',
  maxNewTokens: 128,
  ...published<Sample>(
    ['chartqa', 'ChartQA'],
    [
      {
        layout: 'ChartQA',
        files: ['test_human.json|test/test_human.json', 'test_augmented.json|test/test_augmented.json', 'png/|test/png/'],
        from: 'huggingface.co/datasets/ahmed-masry/ChartQA',
        read: (found) => ownSamples([found.one(0), found.one(1)], found.one(2)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/ChartQA',
        read: (found, options) => tableSamples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['ChartQA_TEST.tsv'],
        from: "VLMEvalKit's ChartQA_TEST.tsv",
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(shortAnswer),
  score: ({ targets }, answer) => verdict(answer, relaxedMatch(answer, targets[0] ?? '')),
  aggregate: (scored) => means(scored, { name: 'relaxed accuracy', by: [({ category }) => category] }),
  lmmsEval: { maxNewTokens: 16, prompt: questionAnd('\nAnswer the question with a single word.') },
};
