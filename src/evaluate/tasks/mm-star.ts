import { z } from 'zod';
import { bootstrapped, grouped } from '../bootstrap.ts';
import { extractedChoice } from '../choice.ts';
import { optionLetter, optionLines, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { strip } from '../python.ts';
import { means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task } from '../task.ts';

interface StarSample extends Sample {
  /** The finer category, of which there are 18. */
  readonly axis: string;
}

const Row = z.looseObject({
  index: z.union([z.string(), z.number()]).transform(String),
  question: z.string(),
  answer: z.string(),
  category: z.string(),
  l2_category: z.string().optional(),
  A: z.string().optional(),
  B: z.string().optional(),
  C: z.string().optional(),
  D: z.string().optional(),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

async function samples(files: readonly string[], options: OpenOptions): Promise<StarSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ index, question, answer, category, l2_category = category, A, B, C, D, image = [] }) => {
    const apart = [A, B, C, D].filter((option) => option !== undefined);
    return {
      id: index,
      question: strip(apart.length > 0 && !question.includes('Options:') ? `${question}\n${optionLines(apart)}` : question),
      images: typeof image === 'string' ? [image] : image,
      targets: [strip(answer)],
      category,
      axis: l2_category,
    };
  });
}

/** Where MMStar's own evaluation looks for the letter, behind what. */
const places = [
  ['', 0],
  ['(', 1],
  ['option ', 7],
  ['the answer is ', 14],
] as const;

/** lmms-eval's category is the mean of its axes' means, and its average that of all axes. */
function meansOfAxes(scored: readonly Scored<StarSample>[]): readonly Metric[] {
  const axes = [...grouped(scored, ({ sample }) => sample.axis)].map(([axis, part]) => ({
    axis,
    category: part[0]?.sample.category ?? '',
  }));
  const categories = [...new Set(axes.map(({ category }) => category))].sort();
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, score } of group) {
        add(`${sample.axis} n`, 1);
        add(`${sample.axis} right`, score);
        add(`${sample.category} n`, 1);
        add('n', 1);
      }
    },
    values(sum) {
      const average = (parts: typeof axes): number => {
        const known = parts.filter(({ axis }) => sum(`${axis} n`) > 0);
        return (known.reduce((all, { axis }) => all + sum(`${axis} right`) / sum(`${axis} n`), 0) / known.length) * 100;
      };
      return [
        { name: 'average', value: average(axes), count: sum('n'), max: 100 },
        ...categories.map((name) => ({
          name,
          value: average(axes.filter(({ category }) => category === name)),
          count: sum(`${name} n`),
          max: 100,
        })),
      ];
    },
  });
}

/** Questions that cannot be answered without looking. Chen et al. 2024, arXiv:2403.20330; 1500 in 6 categories. */
export const mmStar: Task<StarSample> = {
  name: 'mmstar',
  about: 'multiple choice that cannot be answered without looking, 6 categories of 250',
  maxNewTokens: 128,
  ...published<StarSample>(
    ['mmstar', 'MMStar'],
    [
      {
        layout: 'lmms-eval and MMStar',
        files: ['mmstar.parquet|data/val-*.parquet|val-*.parquet'],
        from: 'huggingface.co/datasets/Lin-Chen/MMStar',
        read: (found, options) => samples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['MMStar.tsv'],
        from: "VLMEvalKit's MMStar.tsv",
        read: (found, options) => samples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(optionLetter),
  score({ targets }, answer) {
    const text = strip(answer.toLowerCase()).replaceAll('\n', ' ');
    const truth = (targets[0] ?? '').toLowerCase();
    const characters = [...text];
    const hit = places.some(([before, at]) => text.startsWith(before) && characters[at] === truth);
    const said = places
      .map(([before, at]) => (text.startsWith(before) ? characters[at] : undefined))
      .filter((one) => one !== undefined && /^[a-d]$/.test(one));
    return said.length === 0 && !hit ? unparsed(answer) : verdict((hit ? truth : (said.at(-1) ?? '')).toUpperCase(), hit);
  },
  aggregate: (scored) => means(scored, { name: 'average', by: [({ category }) => category, ({ axis }) => axis] }),
  lmmsEval: {
    prompt: questionAnd(optionLetter.slice(0, -1)),
    score({ targets }, answer) {
      const letter = extractedChoice(answer, [...'ABCD']);
      return letter === undefined ? unparsed(answer) : verdict(letter, letter === targets[0]?.toUpperCase());
    },
    aggregate: meansOfAxes,
  },
};
