import { join } from 'node:path';
import { z } from 'zod';
import { ask, optionLetter, optionLines, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { slice, strip } from '../python.ts';
import { means, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task } from '../task.ts';
import { readJson } from './vqa-files.ts';

const Id = z.union([z.string(), z.number()]).transform(String);
const Question = z.looseObject({
  question_id: Id,
  question: z.string(),
  choice_a: z.string(),
  choice_b: z.string(),
  choice_c: z.string(),
  choice_d: z.string(),
  answer: z.string(),
  data_type: z.enum(['image', 'video']),
  question_type_id: z.int().optional(),
  data_id: z.string().optional(),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});
const Whole = z.looseObject({ questions: z.array(Question), question_type: z.record(z.string(), z.int()) });

interface SeedSample extends Sample {
  readonly options: readonly string[];
  readonly bare: string;
  readonly type?: string | undefined;
}

function sample(row: z.output<typeof Question>, images: readonly string[], type?: string): SeedSample {
  const options = [row.choice_a, row.choice_b, row.choice_c, row.choice_d];
  return {
    id: row.question_id,
    question: `${row.question}\n${optionLines(options)}`,
    bare: row.question,
    options,
    images,
    targets: [row.answer],
    category: row.data_type,
    type,
  };
}

async function ownSamples(file: string, images: string, frames: string): Promise<SeedSample[]> {
  const { questions, question_type } = await readJson(file, Whole);
  const names = new Map(Object.entries(question_type).map(([name, id]) => [id, name]));
  return questions.map((row) => {
    // LLaVA shows the middle frame of a video, kept under the question's id.
    const image = row.data_type === 'image' ? join(images, row.data_id ?? '') : join(frames, `${row.question_id}.png`);
    return sample(row, [image], names.get(row.question_type_id ?? -1));
  });
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<SeedSample[]> {
  const rows = await tableRows(files, Question, options);
  return rows.map((row) => sample(row, typeof row.image === 'string' ? [row.image] : (row.image ?? [])));
}

/** SEED-Bench's files, for both ways of asking. */
const seedFiles = published<SeedSample>(
  ['seed_bench', 'seed-bench', 'SEED-Bench'],
  [
    {
      layout: 'LLaVA',
      files: ['SEED-Bench.json', 'SEED-Bench-image/', 'SEED-Bench-video-image/'],
      from: 'huggingface.co/datasets/AILab-CVC/SEED-Bench; the middle frames of the videos by the script of LLaVA',
      read: (found) => ownSamples(found.one(0), found.one(1), found.one(2)),
    },
    {
      layout: 'lmms-eval',
      files: ['data/test-*.parquet|test-*.parquet'],
      from: 'huggingface.co/datasets/lmms-lab/SEED-Bench',
      read: (found, options) => tableSamples(found.all(0), options),
    },
  ],
);

/** Choices about images and videos. Li et al. 2023, arXiv:2307.16125; 19242 questions, 14233 of them about images. */
export const seedBench: Task<SeedSample> = {
  name: 'seed-bench',
  about: 'multiple choice about images and middle frames of videos, by the letter that the model writes',
  maxNewTokens: 128,
  ...seedFiles,
  prompt: questionAnd(optionLetter),
  score: ({ targets }, answer) => verdict(answer, answer === targets[0]),
  aggregate: (scored) => means(scored, { name: 'accuracy', by: [({ category }) => category, ({ type }) => type] }),
  submission: (scored) => scored.map(({ sample, answer = '' }) => ({ question_id: sample.id, prediction: answer })),
  submissionForm: 'jsonl',
  lmmsEval: {
    stop: ['ASSISTANT:'],
    score({ targets }, answer) {
      const parsed = slice(strip(answer), 0, 1);
      return verdict(parsed, strip(parsed.toLowerCase()) === strip((targets[0] ?? '').toLowerCase()));
    },
  },
};

/** SEED-Bench by its own rule: the option that the model finds least unlikely as an answer. */
export const seedBenchLikelihood: Task<SeedSample> = {
  ...seedBench,
  name: 'seed-bench-likelihood',
  about: 'multiple choice about images and middle frames of videos, by which option the model finds likeliest',
  prompt: ({ images, bare }) => ask(images, `${bare} Answer :`),
  choices: ({ options }) => options,
  score: ({ targets }, answer) => verdict(answer, answer === targets[0]),
  lmmsEval: {},
};
