import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import type { AnswerRow } from '../answers-file.ts';
import { bootstrapped } from '../bootstrap.ts';
import type { JudgeQuestion } from '../judge/question.ts';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { float, round, strip } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task, Verdict } from '../task.ts';

interface WildSample extends Sample {
  /** What is in the image, in words, for a judge that does not see it. */
  readonly context: string;
  /** The answer that a language model gave from these words. */
  readonly reference: string;
}

const Id = z.union([z.string(), z.number()]).transform(String);
const Question = z.looseObject({ question_id: Id, image: z.string(), text: z.string(), category: z.string() });
const Context = z.looseObject({
  image: z.string(),
  caption: z.union([z.string(), z.array(z.string()).transform((lines) => lines.join('\n'))]),
});
const Reference = z.looseObject({ question_id: Id, text: z.string() });
const Row = z.looseObject({
  question_id: Id,
  question: z.string(),
  caption: z.union([z.string(), z.array(z.string()).transform((lines) => lines.join('\n'))]).default(''),
  gpt_answer: z.string(),
  category: z.string(),
  image: z.string().optional(),
});

async function ownSamples(questions: string, contexts: string, references: string, images: string): Promise<WildSample[]> {
  const captions = new Map((await readRows(contexts, Context)).map(({ image, caption }) => [image, caption]));
  const answers = new Map((await readRows(references, Reference)).map(({ question_id, text }) => [question_id, text]));
  const rows = await readRows(questions, Question);
  return rows.map(({ question_id, image, text, category }) => {
    const [context, reference] = [captions.get(image), answers.get(question_id)];
    if (context === undefined) throw new DataError(`${contexts}: nothing about ${image}`);
    if (reference === undefined) throw new DataError(`${references}: no answer to question ${question_id}`);
    return { id: question_id, question: text, images: [join(images, image)], targets: [reference], category, context, reference };
  });
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<WildSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, question, caption, gpt_answer, category, image }) => ({
    id: question_id,
    question,
    images: image === undefined ? [] : [image],
    targets: [gpt_answer],
    category,
    context: caption,
    reference: gpt_answer,
  }));
}

/** The judge's task in LLaVA-Bench, the same for all three kinds; every letter of it belongs to the measure. LLaVA, llava/eval/table/rule.json. */
const rule = [
  'We would like to request your feedback on the performance of two AI assistants in response to the user question displayed above. The user asks the question on observing an image. For your reference, the visual content in the image is represented with a few sentences describing the image. ',
  'Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives an overall score on a scale of 1 to 10, where a higher score indicates better overall performance.',
  'Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, respectively. The two scores are separated by a space.',
  'In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential bias and ensuring that the order in which the responses were presented does not affect your judgment.',
].join('\n');

const role = 'You are a helpful and precise assistant for checking the quality of the answer.';

const pair = (first: number, second: number): Verdict => ({ parsed: `${first} ${second}`, score: Math.min(1, Math.max(0, second / 10)) });

/** Two numbers and nothing else in the first line; the script would take `nan` and `inf` too, and have no mean. */
function officialPair(reply: string): Verdict | undefined {
  const words = (reply.split('\n')[0] ?? '').replaceAll(',', ' ').split(' ');
  const [first, second] = words.map((word) => float(word)).filter((rating) => Number.isFinite(rating));
  return words.length === 2 && first !== undefined && second !== undefined ? pair(first, second) : undefined;
}

/** The first two numbers of the first line. */
function firstPair(reply: string): Verdict | undefined {
  const line = (strip(reply).split('\n')[0] ?? '').replaceAll(',', ' ').replaceAll(';', ' ');
  const [first, second] = line.match(/-?\p{Nd}+(?:\.\p{Nd}+)?/gu) ?? [];
  return first !== undefined && second !== undefined ? pair(float(first) ?? -1, float(second) ?? -1) : undefined;
}

function content({ context, question, reference }: WildSample, answer: string): string {
  const says = (number: number, text: string): string => `[Assistant ${number}]\n${text}\n\n[End of Assistant ${number}]\n\n`;
  return `[Context]\n${context}\n\n[Question]\n${question}\n\n${says(1, reference)}${says(2, answer)}[System]\n${rule}\n\n`;
}

const judge: JudgeQuestion<WildSample> = {
  usual: 'gpt-4-0314',
  attempts: 1,
  call: (sample, answer) => ({
    messages: [
      { role: 'system', content: role },
      { role: 'user', content: content(sample, answer) },
    ],
    temperature: 0.2,
    maxTokens: 1024,
  }),
  verdict: (_, reply) => officialPair(reply),
  // What cannot be read is averaged as -1 by LLaVA's own summary.
  giveUp: () => ({ parsed: '-1 -1', score: 0 }),
};

/** The answer's mean score as a share of the reference's, both rounded as LLaVA's summary rounds them. */
function aggregate(scored: readonly Scored<WildSample>[]): readonly Metric[] {
  const kind = (category: string): string => category.replace(/^llava_bench_/, '');
  const kinds = [...new Set(scored.map(({ sample }) => kind(sample.category)))].sort();
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, parsed, error } of group) {
        const [first = -1, second = -1] = parsed === '' ? [] : parsed.split(' ').map(Number);
        for (const name of ['all', kind(sample.category)]) {
          add(`${name} n`, 1);
          // What could not be asked is worth nothing, and nothing was said of the reference beside it.
          if (error !== undefined) continue;
          add(`${name} judged`, 1);
          add(`${name} first`, first);
          add(`${name} second`, second);
        }
      }
    },
    values: (sum) =>
      ['all', ...kinds].flatMap((name) => {
        const count = sum(`${name} n`);
        const first = round(sum(`${name} first`) / Math.max(1, sum(`${name} judged`)), 3);
        const second = round(sum(`${name} second`) / count, 3);
        return [
          { name, value: first === 0 ? 0 : round((second / first) * 100, 1), count, max: 100 },
          { name: `${name} reference`, value: round(first * 10, 1), count, max: 100 },
          { name: `${name} answer`, value: round(second * 10, 1), count, max: 100 },
        ];
      }),
  });
}

/** Reviews out of LLaVA's own file: the judge's text and the two numbers in it. */
function graded(rows: readonly AnswerRow[], samples: readonly WildSample[] | undefined): Scored<WildSample>[] | undefined {
  const known = new Map(samples?.map((sample) => [sample.id, sample]));
  const scored = rows.map(({ id = '', row }): Scored<WildSample> | undefined => {
    const scores = z.tuple([z.number(), z.number()]).safeParse(row['tuple']);
    if (!scores.success) return undefined;
    const category = typeof row['category'] === 'string' ? row['category'] : 'all';
    const sample = known.get(id) ?? { id, question: '', images: [], targets: [], category, context: '', reference: '' };
    return { sample, answer: '', ...pair(...scores.data) };
  });
  return scored.every((one) => one !== undefined) ? scored : undefined;
}

/** Open questions about images from anywhere, compared by a judge with the answers of a language model that read descriptions. Liu et al. 2023, arXiv:2304.08485; 60 questions. */
export const llavaBench: Task<WildSample> = {
  name: 'llava-bench',
  about: 'conversation, description and reasoning in the wild, as a share of a reference answer; needs a judge (usually gpt-4-0314)',
  maxNewTokens: 1024,
  ...published<WildSample>(
    ['llava-bench-in-the-wild', 'llava-bench'],
    [
      {
        layout: 'LLaVA',
        files: ['questions.jsonl', 'context.jsonl', 'answers_gpt4.jsonl', 'images/'],
        from: 'huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild',
        read: (found) => ownSamples(found.one(0), found.one(1), found.one(2), found.one(3)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/train-*.parquet|train-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/llava-bench-in-the-wild',
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(''),
  score: (_, answer) => ({ parsed: answer, score: 0 }),
  needsJudge: true,
  judge,
  graded,
  aggregate,
  lmmsEval: {
    maxNewTokens: 4096,
    stop: ['ASSISTANT:'],
    judge: {
      ...judge,
      usual: 'gpt-4o-2024-11-20',
      call: (sample, answer) => ({ messages: [{ role: 'user', content: content(sample, answer) }], temperature: 0, maxTokens: 1024 }),
      verdict: (_, reply) => firstPair(reply),
    },
  },
};
