import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { mmmuChoice, type Options } from '../choice.ts';
import { openCandidates, openMatches } from '../mmmu-open.ts';
import { ask, letters, optionLetter, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { pythonList } from '../python-list.ts';
import { readRows } from '../questions-file.ts';
import { means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task, Verdict } from '../task.ts';
import { readJson } from './vqa-files.ts';

interface MmmuSample extends Sample {
  /** None for an open question. */
  readonly options: Options | undefined;
  readonly domain: string;
  /** The whole prompt, where the file has it. */
  readonly written?: string | undefined;
  /** The truth as lmms-eval compares it: the cell itself. */
  readonly cell: string;
}

const domains: Readonly<Record<string, readonly string[]>> = {
  'Art and Design': ['Art', 'Art_Theory', 'Design', 'Music'],
  Business: ['Accounting', 'Economics', 'Finance', 'Manage', 'Marketing'],
  Science: ['Biology', 'Chemistry', 'Geography', 'Math', 'Physics'],
  'Health and Medicine': ['Basic_Medical_Science', 'Clinical_Medicine', 'Diagnostics_and_Laboratory_Medicine', 'Pharmacy', 'Public_Health'],
  'Humanities and Social Science': ['History', 'Literature', 'Sociology', 'Psychology'],
  'Tech and Engineering': [
    'Agriculture',
    'Architecture_and_Engineering',
    'Computer_Science',
    'Electronics',
    'Energy_and_Power',
    'Materials',
    'Mechanical_Engineering',
  ],
};

/** `validation_Accounting_1` is of the subject Accounting. */
function subjectOf(id: string): { category: string; domain: string } {
  const category = /^[^_]*_(.+?)_\d+$/.exec(id)?.[1];
  if (category === undefined) throw new DataError(`MMMU's ids look like validation_Accounting_1, got ${JSON.stringify(id)}`);
  return { category, domain: Object.keys(domains).find((name) => domains[name]?.includes(category)) ?? 'other' };
}

const Choices = z.record(z.string(), z.string());
const Annotation = z.looseObject({
  id: z.string(),
  prompt: z.string(),
  question_type: z.string(),
  image: z.string().optional(),
  index2ans: Choices.optional(),
});
const Truth = z.record(z.string(), z.looseObject({ ground_truth: z.union([z.string(), z.array(z.string())]) }));
const Picture = z.string().optional();
const Row = z.looseObject({
  id: z.string(),
  question: z.string(),
  options: z.string(),
  answer: z.string(),
  question_type: z.string(),
  image_1: Picture,
  image_2: Picture,
  image_3: Picture,
  image_4: Picture,
  image_5: Picture,
  image_6: Picture,
  image_7: Picture,
});

async function tinyLlavaSamples(file: string, truthFile: string, images: string): Promise<MmmuSample[]> {
  const truths = await readJson(truthFile, Truth);
  const rows = await readRows(file, Annotation);
  return rows.map(({ id, prompt, question_type, image, index2ans }) => {
    const truth = truths[id]?.ground_truth;
    if (truth === undefined) throw new DataError(`${truthFile}: no answer to ${id}`);
    return {
      id,
      question: prompt,
      written: prompt.replaceAll(/<image(?: \d)?>\n?/g, '').trim(),
      images: image === undefined ? [] : [join(images, image)],
      targets: typeof truth === 'string' ? [truth] : truth,
      ...subjectOf(id),
      options: question_type === 'multiple-choice' ? (index2ans ?? {}) : undefined,
      cell: typeof truth === 'string' ? truth : (truth[0] ?? ''),
    };
  });
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<MmmuSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map((row) => {
    const { id, question, answer, question_type } = row;
    const choices = question_type === 'multiple-choice' ? pythonList(row.options) : undefined;
    const byLetter = choices && Object.fromEntries(choices.map((text, i) => [letters[i] ?? '', text]));
    const mentioned = [...`${question}\n${choices?.join('\n') ?? ''}`.matchAll(/<image (\d)>/g)].map(([, number]) => Number(number));
    const files = [row.image_1, row.image_2, row.image_3, row.image_4, row.image_5, row.image_6, row.image_7];
    const shown = [...new Set(mentioned)].sort().flatMap((number) => files[number - 1] ?? []);
    return {
      id,
      question,
      images: shown,
      targets: choices === undefined && answer.startsWith('[') ? pythonList(answer) : [answer],
      ...subjectOf(id),
      options: byLetter,
      cell: answer,
    };
  });
}

function score(sample: MmmuSample, answer: string, { word, truths }: { word: 'spaces' | 'lmms-eval'; truths: readonly string[] }): Verdict {
  if (sample.options === undefined) {
    const candidates = openCandidates(answer);
    return verdict(candidates.map(String).join(' | '), openMatches(candidates, truths));
  }
  const letter = mmmuChoice(answer, sample.options, word);
  return letter === undefined ? unparsed(answer) : verdict(letter, truths.includes(letter));
}

const ending = (sample: MmmuSample): string => (sample.options === undefined ? shortAnswer : optionLetter).slice(1);
const optionList = (options: Options, form: (letter: string, text: string) => string): string =>
  Object.entries(options)
    .map(([letter, text]) => form(letter, text))
    .join('\n');

/** College questions of 30 subjects. Yue et al. 2023, arXiv:2311.16502; 900 in val, 53 of them open. */
export const mmmu: Task<MmmuSample> = {
  name: 'mmmu',
  about: 'college questions of 30 subjects (val), multiple choice and some open',
  maxNewTokens: 1024,
  ...published<MmmuSample>(
    ['MMMU', 'mmmu'],
    [
      {
        layout: 'TinyLLaVA',
        files: ['anns_for_eval.json', 'eval/answer_dict_val.json|answer_dict_val.json', 'all_images/'],
        from: "TinyLLaVA Factory's evaluation data (MMMU.zip)",
        read: (found) => tinyLlavaSamples(found.one(0), found.one(1), found.one(2)),
      },
      {
        layout: 'lmms-eval and MMMU',
        files: ['data/validation-*.parquet|validation-*.parquet|*/validation-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/MMMU or MMMU/MMMU',
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt(sample) {
    const { images, question, options, written } = sample;
    if (written !== undefined) return ask(images, written);
    const list = options === undefined ? '' : `${optionList(options, (letter, text) => `(${letter}) ${text}`)}\n\n\n`;
    return ask(images, `${question}\n\n${list}${ending(sample)}`);
  },
  score: (sample, answer) => score(sample, answer, { word: 'spaces', truths: sample.targets }),
  aggregate: (scored) =>
    means(scored, {
      name: 'accuracy',
      by: [({ domain }) => domain, ({ category }) => category, ({ options }) => (options ? 'multiple choice' : 'open')],
    }),
  notes(scored) {
    const blind = scored.filter(({ sample }) => sample.written !== undefined && sample.images.length === 0).length;
    if (blind === 0) return [];
    return [
      `${blind} questions about several images, none of which is in these files, are asked without them; TinyLLaVA Factory draws a letter, or counts an open one wrong`,
    ];
  },
  submission: (scored) => Object.fromEntries(scored.map(({ sample, parsed }) => [sample.id, parsed])),
  lmmsEval: {
    maxNewTokens: 128,
    prompt(sample) {
      const { images, question, options } = sample;
      const list = options === undefined ? '' : `\n${optionList(options, (letter, text) => `${letter}. ${text}`)}`;
      return ask(images, `${question}${list}\n\n${ending(sample)}`);
    },
    score: (sample, answer) => score(sample, answer, { word: 'lmms-eval', truths: [sample.cell] }),
  },
};
