import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { bootstrapped, type Values } from '../bootstrap.ts';
import { ask, bareQuestion, questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { slice, strip } from '../python.ts';
import { readRows, readText } from '../questions-file.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task, Verdict } from '../task.ts';

const perception = ['existence', 'count', 'position', 'color', 'posters', 'celebrity', 'scene', 'landmark', 'artwork', 'OCR'] as const;
const cognition = ['commonsense_reasoning', 'numerical_calculation', 'text_translation', 'code_reasoning'] as const;

interface MmeSample extends Sample {
  /** The image, which two questions share. */
  readonly pair: string;
  /** The question as lmms-eval asks it, where that differs: seven of MME's keep a space at their end. */
  readonly spaced?: string | undefined;
}

const Question = z.looseObject({ question_id: z.string(), image: z.string(), text: z.string(), category: z.string() });
const Row = z.looseObject({
  question_id: z.string().optional(),
  index: z.string().optional(),
  image_path: z.string().optional(),
  question: z.string(),
  answer: z.string(),
  category: z.enum([...perception, ...cognition]),
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

/** The question as the benchmark's files and LLaVA's have it in common. */
const bare = (question: string): string => strip(strip(question).replace(/\s*please answer yes or no\.?$/i, ''));

/** Truth by category, image name without its ending, and question; the official tool's tables have `image, question, answer`. */
class Truth {
  /** What it was read from. */
  readonly files: string[] = [];
  readonly #answers = new Map<string, string>();

  #key = (category: string, image: string, question: string): string =>
    `${category}/${basename(image).replace(/\.[^.]*$/, '')}\n${bare(question)}`;

  add(category: string, line: string, image?: string): void {
    const cells = line.split('\t');
    const [name, question, answer] = image === undefined ? cells : [image, ...cells];
    if (answer !== undefined) this.#answers.set(this.#key(category, name ?? '', question ?? ''), strip(answer).toLowerCase());
  }

  of({ category, image, text }: z.output<typeof Question>): string {
    const answer = this.#answers.get(this.#key(category, image, bareQuestion(text)));
    if (answer === undefined) throw new DataError(`no truth for MME's ${image}: ${JSON.stringify(bareQuestion(text))}`);
    return answer;
  }
}

const lines = async (file: string): Promise<string[]> => (await readText(file)).split('\n').filter((line) => strip(line) !== '');

async function fromTables(files: readonly string[]): Promise<Truth> {
  const truth = new Truth();
  for (const file of files) for (const line of await lines(file)) truth.add(basename(file, '.txt'), line);
  return truth;
}

/** The release has a file for each image, beside it or in questions_answers_YN/. */
async function fromRelease(folder: string): Promise<Truth> {
  const truth = new Truth();
  for (const category of [...perception, ...cognition]) {
    const home = [join(folder, category, 'questions_answers_YN'), join(folder, category)].find(existsSync);
    if (home === undefined) throw new DataError(`${folder}: no folder ${category}`, { hint: 'unpack the whole release of MME' });
    for (const file of (await readdir(home)).filter((name) => name.endsWith('.txt')).sort()) {
      truth.files.push(join(home, file));
      for (const line of await lines(join(home, file))) truth.add(category, line, file);
    }
  }
  return truth;
}

async function llavaSamples(file: string, truth: Truth, images: string): Promise<MmeSample[]> {
  const rows = await readRows(file, Question);
  return rows.map((row, i) => ({
    id: `${row.question_id}#${i}`,
    sharedId: row.question_id,
    question: bareQuestion(row.text),
    images: [picture(images, row.image)],
    targets: [truth.of(row)],
    category: row.category,
    pair: row.image,
  }));
}

/** Some categories of the release keep their images in images/. */
function picture(folder: string, image: string): string {
  const inFolder = join(folder, image.replace('/', '/images/'));
  return existsSync(inFolder) ? inFolder : join(folder, image);
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<MmeSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, index, image_path, question, answer, category, image = [] }, i) => {
    const spaced = strip(question).replaceAll(' Please answer yes or no.', '');
    return {
      id: index ?? `${question_id}#${i}`,
      ...(question_id !== undefined && { sharedId: question_id }),
      question: bare(question),
      ...(spaced !== bare(question) && { spaced }),
      images: typeof image === 'string' ? [image] : image,
      targets: [strip(answer).toLowerCase().replaceAll('.', '')],
      category,
      pair: `${category}/${question_id ?? image_path ?? i}`,
    };
  });
}

/** A yes or no among the first four characters; yes is looked for first. */
function start(text: string): string | undefined {
  const first = slice(text, 0, 4);
  return first.includes('yes') ? 'yes' : first.includes('no') ? 'no' : undefined;
}

function said({ targets }: Sample, parsed: string | undefined): Verdict {
  return parsed === undefined ? { parsed: 'other', score: 0, unparsed: true } : { parsed, score: parsed === targets[0] ? 1 : 0 };
}

const official = (sample: Sample, answer: string): Verdict => said(sample, start(answer.toLowerCase()));

/** lmms-eval strips the answer, takes full stops out of it, and knows y and n. */
function lmmsEval(sample: Sample, answer: string): Verdict {
  const text = strip(answer.toLowerCase()).replaceAll('.', '');
  if ([...text].length === 1) return said(sample, text === 'y' ? 'yes' : text === 'n' ? 'no' : undefined);
  return said(sample, start(text));
}

/** Accuracy by question and by image (both questions right), each in percent, added up; a total adds up its subtasks. */
function aggregate(scored: readonly Scored<MmeSample>[]): readonly Metric[] {
  return bootstrapped(scored, {
    together: ({ pair }) => pair,
    sums(group, add) {
      const category = group[0]?.sample.category;
      add(`${category} questions`, group.length);
      add(
        `${category} right`,
        group.reduce((sum, { score }) => sum + score, 0),
      );
      add(`${category} images`, 1);
      add(`${category} both`, group.every(({ score }) => score === 1) ? 1 : 0);
    },
    values(sum) {
      const subtasks = (names: readonly string[]): Values =>
        names.flatMap((name) => {
          const count = sum(`${name} questions`);
          if (count === 0) return [];
          return [
            { name, value: (sum(`${name} right`) / count) * 100 + (sum(`${name} both`) / sum(`${name} images`)) * 100, count, max: 200 },
          ];
        });
      const total = (name: string, parts: readonly string[]) => {
        const found = subtasks(parts);
        const all = (key: 'value' | 'count'): number => found.reduce((whole, part) => whole + part[key], 0);
        return { name, value: all('value'), count: all('count'), max: 200 * parts.length };
      };
      return [total('perception', perception), total('cognition', cognition), ...subtasks([...perception, ...cognition])];
    },
  });
}

const images = 'MME_Benchmark_release_version';

/** Yes and no about 14 abilities, two questions an image. Fu et al. 2023, arXiv:2306.13394; 2374 questions. */
export const mme: Task<MmeSample> = {
  name: 'mme',
  about: 'yes/no about perception (10 subtasks, at most 2000) and cognition (4, at most 800), two questions an image',
  maxNewTokens: 128,
  ...published<MmeSample>(
    ['MME', 'mme'],
    [
      {
        layout: 'LLaVA',
        files: ['llava_mme.jsonl', 'eval_tool/Your_Results/*.txt|Your_Results/*.txt|ground-truth/*.txt', `${images}/`],
        from: "LLaVA's eval.zip, the eval_tool.zip of github.com/BradyFU/Awesome-Multimodal-Large-Language-Models (branch Evaluation), and the images from MME's authors",
        read: async (found) => llavaSamples(found.one(0), await fromTables(found.all(1)), found.one(2)),
      },
      {
        layout: 'LLaVA',
        files: ['llava_mme.jsonl', images],
        from: "LLaVA's eval.zip and the release from MME's authors",
        async read(found) {
          const truth = await fromRelease(found.one(1));
          return { samples: await llavaSamples(found.one(0), truth, found.one(1)), files: truth.files };
        },
      },
      {
        layout: 'lmms-eval',
        files: ['data/*.parquet|*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/MME',
        read: (found, options) => tableSamples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['MME.tsv'],
        from: "VLMEvalKit's MME.tsv",
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(shortAnswer),
  score: official,
  aggregate,
  lmmsEval: {
    maxNewTokens: 16,
    prompt: ({ images, question, spaced = question }) => ask(images, `${spaced}${shortAnswer}`),
    score: lmmsEval,
  },
};
