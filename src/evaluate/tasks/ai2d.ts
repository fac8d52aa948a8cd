import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { inferredChoice, type Options } from '../choice.ts';
import { letters, optionLetter, optionLines, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { strip, withoutPunctuation } from '../python.ts';
import { means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task } from '../task.ts';

interface DiagramSample extends Sample {
  readonly options: Options;
}

const Option = z.union([z.string(), z.number()]).transform(String).optional();
const Row = z.looseObject({
  index: z.string().optional(),
  question: z.string(),
  options: z.array(z.string()).optional(),
  A: Option,
  B: Option,
  C: Option,
  D: Option,
  answer: z.union([z.string(), z.number()]).transform(String),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

async function samples(files: readonly string[], open: OpenOptions): Promise<DiagramSample[]> {
  const rows = await tableRows(files, Row, open);
  return rows.map(({ index, question, options, A, B, C, D, answer, image = [] }, i) => {
    const choices = options ?? [A, B, C, D].filter((option) => option !== undefined);
    if (choices.length === 0) {
      throw new DataError(`${files.join(', ')}: question ${index ?? i} has no options`, { hint: "is the file another benchmark's?" });
    }
    return {
      id: index ?? String(i),
      question: `${question}\n${optionLines(choices)}`,
      images: typeof image === 'string' ? [image] : image,
      targets: [/^\d+$/.test(answer) ? (letters[Number(answer)] ?? '') : answer],
      category: 'all',
      options: Object.fromEntries(choices.map((text, at) => [letters[at] ?? '', text])),
    };
  });
}

const alike = (text: string): string => withoutPunctuation(text.toLowerCase());

/** Questions about diagrams of school science. Kembhavi et al. 2016, arXiv:1603.07396; 3088 in test. */
export const ai2d: Task<DiagramSample> = {
  name: 'ai2d',
  about: 'multiple choice about diagrams of school science',
  maxNewTokens: 128,
  ...published<DiagramSample>(
    ['ai2d', 'AI2D'],
    [
      {
        layout: 'lmms-eval',
        files: ['data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/ai2d',
        read: (found, options) => samples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['AI2D_TEST.tsv'],
        from: "VLMEvalKit's AI2D_TEST.tsv",
        read: (found, options) => samples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(optionLetter),
  score({ targets, options }, answer) {
    const letter = inferredChoice(answer, options);
    return letter === undefined ? unparsed(answer) : verdict(letter, letter === targets[0]);
  },
  aggregate: (scored) => means(scored, { name: 'accuracy' }),
  lmmsEval: {
    maxNewTokens: 16,
    score({ targets }, answer) {
      const parsed = /^([A-Z])\./.exec(strip(answer))?.[1] ?? answer;
      return verdict(parsed, alike(parsed) === alike(targets[0] ?? ''));
    },
  },
};
