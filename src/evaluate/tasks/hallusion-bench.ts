import { join } from 'node:path';
import { z } from 'zod';
import { bootstrapped } from '../bootstrap.ts';
import type { JudgeQuestion } from '../judge/question.ts';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task } from '../task.ts';
import { yesOrNo } from '../vqa-answer.ts';

interface HallusionSample extends Sample {
  readonly subcategory: string;
  readonly set: string;
  readonly figure: string;
  readonly number: string;
  /** 0: no image, 1: the image as it is, 2: the image changed. */
  readonly visualInput: string;
  readonly details: string;
}

const Text = z.union([z.string(), z.number()]).transform(String);
const Row = z.looseObject({
  category: z.string(),
  subcategory: z.string(),
  visual_input: Text,
  set_id: Text,
  figure_id: Text,
  question_id: Text,
  question: z.string(),
  gt_answer: Text,
  gt_answer_details: z.string().default(''),
  filename: z.string().nullish(),
  image: z.string().optional(),
});

async function samples(files: readonly string[], folder: string | undefined, options: OpenOptions): Promise<HallusionSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ filename, image, ...row }) => {
    const shown = image ?? (filename && folder !== undefined ? join(folder, filename) : undefined);
    return {
      id: [row.category, row.subcategory, row.set_id, row.figure_id, row.question_id].join('_'),
      question: row.question,
      images: shown === undefined || row.visual_input === '0' ? [] : [shown],
      targets: [row.gt_answer === '1' ? 'yes' : 'no'],
      category: row.category,
      subcategory: row.subcategory,
      set: row.set_id,
      figure: row.figure_id,
      number: row.question_id,
      visualInput: row.visual_input,
      details: row.gt_answer_details,
    };
  });
}

/** Where a question of the kind "VS" has no image, not to know is right. */
const mayNotKnow = ({ category, figure }: HallusionSample): boolean => category === 'VS' && figure === '0';

const judge: JudgeQuestion<HallusionSample> = {
  usual: 'gpt-4',
  attempts: 3,
  // Every letter of it belongs to the measure. github.com/tianyi-lab/HallusionBench, utils.py.
  call: ({ question, details }, answer) => ({
    messages: [
      {
        role: 'user',
        content: `Imagine you are an intelligent teacher. Thoroughly read the question, reference answer and the prediction answer to ensure a clear understanding of the information provided. Assess the correctness of the predictions. If the prediction answer does not conflict with the reference answer, please generate “correct”. If the prediction answer conflict with the reference answer, please generate “incorrect”. If the prediction answer is unclear about the answer, please generate "unclear". \n\n Question:${question}\nReference answer: ${details}\nPrediction answer:${answer}\nOutput:`,
      },
    ],
    temperature: 1,
    maxTokens: 16,
  }),
  verdict(sample, reply) {
    const said = reply.toLowerCase();
    if (said.includes('incorrect')) return verdict('incorrect', false);
    return said.includes('correct') ? verdict('correct', true) : verdict('unclear', mayNotKnow(sample));
  },
  giveUp: (sample) => verdict('unclear', mayNotKnow(sample)),
};

/** Right questions (a), figures of which all questions are right (f), and questions that are right for all their figures (q). */
function metrics(scored: readonly Scored<HallusionSample>[], figureCounts: (sample: HallusionSample) => boolean): readonly Metric[] {
  const key = (parts: readonly string[]): string => parts.join('_');
  return bootstrapped(scored, {
    // Figures and questions of a set cross each other, so sets are drawn as a whole.
    together: ({ category, subcategory, set }) => key([category, subcategory, set]),
    sums(group, add) {
      const wholes = new Map<string, boolean>();
      const mark = (name: string, right: boolean): void => void wholes.set(name, (wholes.get(name) ?? true) && right);
      for (const { sample, score } of group) {
        const { category, subcategory, set, figure, number, visualInput } = sample;
        add('a n', 1);
        add('a right', score);
        const level = visualInput === '2' ? 'hard' : 'easy';
        add(`${level} n`, 1);
        add(`${level} right`, score);
        add(`${category} n`, 1);
        add(`${category} right`, score);
        if (figureCounts(sample)) mark(`f ${key([category, subcategory, set, figure])}`, score === 1);
        mark(`q ${key([category, subcategory, set, number])}`, score === 1);
      }
      for (const [name, right] of wholes) {
        const kind = name.slice(0, 1);
        add(`${kind} n`, 1);
        add(`${kind} right`, right ? 1 : 0);
      }
    },
    values(sum) {
      const of = (name: string, label: string) => ({
        name: label,
        value: sum(`${name} n`) === 0 ? 0 : (sum(`${name} right`) / sum(`${name} n`)) * 100,
        count: sum(`${name} n`),
        max: 100,
      });
      const parts = [
        ['easy', 'easy questions'],
        ['hard', 'hard questions'],
        ['VD', 'VD questions'],
        ['VS', 'VS questions'],
      ] as const;
      return [
        of('a', 'aAcc'),
        of('f', 'fAcc'),
        of('q', 'qAcc'),
        ...parts.filter(([name]) => sum(`${name} n`) > 0).map(([name, label]) => of(name, label)),
      ];
    },
  });
}

/**
 * How much more often than the truth the answers are yes, and which share of the wrong ones says yes; what is not the truth counts as its opposite, as in the
 * benchmark's own script.
 */
function bias(scored: readonly Scored<HallusionSample>[]): Readonly<Record<string, number>> {
  const yes = ({ sample }: Scored<HallusionSample>): boolean => sample.targets[0] === 'yes';
  const wrong = scored.filter(({ score }) => score < 1);
  const said = scored.filter((one) => (one.score === 1) === yes(one)).length;
  return {
    'yes bias': (said - scored.filter(yes).length) / Math.max(1, scored.length),
    'false positives of wrong': wrong.length === 0 ? 0 : wrong.filter((one) => !yes(one)).length / wrong.length,
  };
}

/** Illusions of sight and of language, asked about changed and unchanged figures. Guan et al. 2023, arXiv:2310.14566; 1129 questions. */
export const hallusionBench: Task<HallusionSample> = {
  name: 'hallusion-bench',
  about:
    'yes/no about figures as they are and changed (a: questions, f: figures, q: questions over figures); by yes and no, or by a judge (usually gpt-4)',
  maxNewTokens: 512,
  ...published<HallusionSample>(
    ['hallusion-bench', 'HallusionBench'],
    [
      {
        layout: 'HallusionBench',
        files: ['HallusionBench.json', 'hallusion_bench/'],
        from: 'github.com/tianyi-lab/HallusionBench',
        read: (found, options) => samples(found.all(0), found.one(1), options),
      },
      {
        layout: 'lmms-eval',
        files: ['data/image-*.parquet|image-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/HallusionBench (split image: questions with an image only)',
        read: (found, options) => samples(found.all(0), undefined, options),
      },
    ],
  ),
  prompt: questionAnd(''),
  score(sample, answer) {
    const said = yesOrNo(answer);
    // Neither or both is what a judge calls unclear.
    if (said === undefined) return { ...unparsed(answer), score: mayNotKnow(sample) ? 1 : 0 };
    return verdict(said, said === sample.targets[0]);
  },
  judge,
  aggregate: (scored) => metrics(scored, (sample) => !mayNotKnow(sample)),
  counts: bias,
  lmmsEval: {
    maxNewTokens: 128,
    score({ targets }, answer) {
      const said = answer.toLowerCase().includes('yes') ? 'yes' : 'no';
      return verdict(said, said === targets[0]);
    },
    aggregate: (scored) => metrics(scored, () => true),
  },
};
