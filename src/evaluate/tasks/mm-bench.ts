import { z } from 'zod';
import { grouped } from '../bootstrap.ts';
import { extractedChoice, inferredChoice, mmbenchChoice, type Options } from '../choice.ts';
import { ask, optionLetter } from '../prompts.ts';
import { published } from '../published.ts';
import { mean, means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Scored, Task } from '../task.ts';

interface BenchSample extends Sample {
  readonly options: Options;
  readonly hint?: string | undefined;
  /** The wider category. */
  readonly ability?: string | undefined;
  /** The question, of which other samples are rotations. */
  readonly base: string;
  readonly split?: string | undefined;
}

const missing = (text: string | undefined): boolean => text === undefined || text === 'nan' || text === '';
const Text = z.union([z.string(), z.number()]).transform(String).optional();
const Row = z.looseObject({
  index: z.union([z.string(), z.number()]).transform(Number),
  question: z.string(),
  hint: Text,
  A: Text,
  B: Text,
  C: Text,
  D: Text,
  E: Text,
  answer: Text,
  category: z.string().optional(),
  'l2-category': z.string().optional(),
  'L2-category': z.string().optional(),
  split: z.string().optional(),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

async function samples(files: readonly string[], options: OpenOptions): Promise<BenchSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map((row) => {
    const { index, question, hint, answer, category = 'all', image = [] } = row;
    const letters = (['A', 'B', 'C', 'D', 'E'] as const).map((letter) => [letter, row[letter]] as const);
    // Options end at the first one that is missing.
    const end = letters.findIndex(([, text]) => missing(text));
    return {
      id: String(index),
      question,
      images: typeof image === 'string' ? [image] : image,
      targets: answer === undefined || missing(answer) ? [] : [answer],
      category,
      ability: row['l2-category'] ?? row['L2-category'],
      options: Object.fromEntries(letters.slice(0, end === -1 ? letters.length : end).map(([letter, text]) => [letter, text ?? ''])),
      hint: missing(hint) ? undefined : hint,
      base: String(index % 1e6),
      split: row.split,
    };
  });
}

const lines = (options: Options): string =>
  Object.entries(options)
    .map(([letter, text]) => `${letter}. ${text}`)
    .join('\n');

/** A question is right when all its rotations are; vanilla looks at the first alone. */
function aggregate(scored: readonly Scored<BenchSample>[]) {
  const known = scored.filter(({ sample }) => sample.targets.length > 0);
  if (known.length === 0) return [];
  const rounds = [...grouped(known, ({ sample }) => sample.base).values()];
  const whole = rounds.flatMap((group): Scored<BenchSample>[] => {
    const first = group.find(({ sample }) => sample.id === sample.base) ?? group[0];
    return first ? [{ ...first, score: group.every(({ score }) => score === 1) ? 1 : 0 }] : [];
  });
  const [circular, ...parts] = means(whole, { name: 'circular', by: [({ ability }) => ability, ({ category }) => category] });
  const firsts = known.filter(({ sample }) => sample.id === sample.base);
  return [...(circular ? [circular] : []), mean('vanilla', firsts, 100), ...parts];
}

/** The rows that MMBench's server takes, with LLaVA's columns: the truth and the split where the file has them. */
function uploaded(scored: readonly Scored<BenchSample>[]): Record<string, string | number>[] {
  const whole = scored.some(({ sample }) => 'E' in sample.options) ? ['A', 'B', 'C', 'D', 'E'] : ['A', 'B', 'C', 'D'];
  return scored.map(({ sample: { id, question, options, targets, split }, answer = '' }) => ({
    index: Number(id),
    question,
    ...Object.fromEntries(whole.map((letter) => [letter, options[letter] ?? ''])),
    prediction: answer,
    ...(targets[0] !== undefined && { answer: targets[0] }),
    ...(split !== undefined && { split }),
  }));
}

/** MMBench in one language. Liu et al. 2023, arXiv:2307.06281. */
function mmBench(
  name: string,
  language: 'English' | 'Chinese',
  { files, folder, suffix, lmmsSuffix }: { files: { dev: string; test: string }; folder: string; suffix: string; lmmsSuffix: string },
): Task<BenchSample> {
  const code = language === 'English' ? 'en' : 'cn';
  return {
    name,
    about: `multiple choice of 20 abilities in ${language}; right only when it is right for every order of the options`,
    maxNewTokens: 1024,
    ...published<BenchSample>(
      [name, folder],
      (['dev', 'test'] as const).flatMap((split) => [
        {
          layout: 'LLaVA and VLMEvalKit',
          files: [files[split]],
          from: `github.com/open-compass/MMBench, or VLMEvalKit's MMBench_${split.toUpperCase()}_${code.toUpperCase()}.tsv${split === 'test' ? '; the truth is with the server' : ''}`,
          read: (found, options) => samples(found.all(0), options),
        },
        {
          layout: 'lmms-eval',
          files: [`${code}/${split}-*.parquet|${split}-*.parquet`],
          from: `huggingface.co/datasets/lmms-lab/MMBench (config ${code}, split ${split})`,
          read: (found, options) => samples(found.all(0), options),
        },
      ]),
    ),
    prompt: ({ images, hint, question, options }) =>
      ask(images, `${hint === undefined ? '' : `${hint}\n`}${question}\n${lines(options)}${suffix}`),
    score({ targets, options }, answer) {
      const letter = inferredChoice(answer, options);
      return letter === undefined ? unparsed(answer) : verdict(letter, letter === targets[0]);
    },
    aggregate,
    submission: uploaded,
    submissionForm: 'xlsx',
    lmmsEval: {
      stop: language === 'English' ? ['ASSISTANT:'] : ['\n\n'],
      maxNewTokens: language === 'English' ? 1024 : 256,
      prompt: ({ images, hint, question, options }) =>
        ask(images, `${hint === undefined ? '' : `${hint} `}${question} There are several options:\n${lines(options)}\n${lmmsSuffix}`),
      score({ targets, options }, answer) {
        const letter = mmbenchChoice(answer, options) ?? extractedChoice(answer, Object.keys(options));
        return letter === undefined ? unparsed(answer) : verdict(letter, letter === targets[0]);
      },
    },
  };
}

export const mmBenchEn = mmBench('mmbench-en', 'English', {
  files: {
    dev: 'mmbench_dev_20230712.tsv|mmbench_dev_en_20231003.tsv|MMBench_DEV_EN.tsv|MMBench_DEV_EN_V11.tsv',
    test: 'mmbench_test_20230712.tsv|mmbench_test_en_20231003.tsv|MMBench_TEST_EN.tsv|MMBench_TEST_EN_V11.tsv',
  },
  folder: 'mmbench',
  suffix: optionLetter,
  lmmsSuffix: optionLetter,
});

export const mmBenchCn = mmBench('mmbench-cn', 'Chinese', {
  files: {
    dev: 'mmbench_dev_cn_20231003.tsv|MMBench_DEV_CN.tsv|MMBench_DEV_CN_V11.tsv',
    test: 'mmbench_test_cn_20231003.tsv|MMBench_TEST_CN.tsv|MMBench_TEST_CN_V11.tsv',
  },
  folder: 'mmbench_cn',
  suffix: '\n请直接回答选项字母。',
  lmmsSuffix: '\n请直接使用所提供的选项字母作为答案回答。',
});
