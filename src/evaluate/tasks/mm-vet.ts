import { join } from 'node:path';
import { z } from 'zod';
import type { AnswerRow } from '../answers-file.ts';
import { bootstrapped } from '../bootstrap.ts';
import type { JudgeCall, JudgeQuestion } from '../judge/question.ts';
import { ask, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { float, strip } from '../python.ts';
import { average } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task } from '../task.ts';
import { readJson } from './vqa-files.ts';

interface VetSample extends Sample {
  readonly abilities: readonly string[];
}

const abilities = ['rec', 'ocr', 'know', 'gen', 'spat', 'math'];

const Whole = z.record(
  z.string(),
  z.looseObject({ imagename: z.string(), question: z.string(), answer: z.string(), capability: z.array(z.string()) }),
);
const Row = z.looseObject({
  question_id: z.union([z.string(), z.number()]).transform(String),
  question: z.string(),
  answer: z.string(),
  capability: z.string(),
  image: z.string().optional(),
});

async function ownSamples(file: string, images: string): Promise<VetSample[]> {
  const whole = await readJson(file, Whole);
  return Object.entries(whole).map(([id, { imagename, question, answer, capability }]) => ({
    id,
    sharedId: id.replace(/^v1_/, ''),
    question,
    images: [join(images, imagename)],
    targets: [answer],
    category: [...capability].sort().join('_'),
    abilities: capability,
  }));
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<VetSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, question, answer, capability, image }) => ({
    id: question_id,
    question,
    images: image === undefined ? [] : [image],
    targets: [answer],
    category: capability.split(',').sort().join('_'),
    abilities: capability.split(','),
  }));
}

/** What MM-Vet's judge is told; every letter of it belongs to the measure. github.com/yuweihao/MM-Vet. */
const instruction =
  'Compare the ground truth and prediction from AI models, to give a correctness score for the prediction. <AND> in the ground truth means it is totally right only when all elements in the ground truth are present in the prediction, and <OR> means it is totally right when any one element in the ground truth is present in the prediction. The correctness score is 0.0 (totally wrong), 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, or 1.0 (totally right). Just complete the last space of the correctness score.';
const meme =
  'Can you explain this meme? | This meme is poking fun at the fact that the names of the countries Iceland and Greenland are misleading. Despite its name, Iceland is known for its beautiful green landscapes, while Greenland is mostly covered in ice and snow. The meme is saying that the person has trust issues because the names of these countries do not accurately represent their landscapes.';
const equation = 'What is x in the equation? | -1 <AND> -5';
const examples = [
  `${equation} | x = 3 | 0.0`,
  `${equation} | x = -1 | 0.5`,
  `${equation} | x = -5 | 0.5`,
  `${equation} | x = -5 or 5 | 0.5`,
  `${equation} | x = -1 or x = -5 | 1.0`,
  `${meme} | The meme talks about Iceland and Greenland. It's pointing out that despite their names, Iceland is not very icy and Greenland isn't very green. | 0.4`,
  `${meme} | The meme is using humor to point out the misleading nature of Iceland's and Greenland's names. Iceland, despite its name, has lush green landscapes while Greenland is mostly covered in ice and snow. The text 'This is why I have trust issues' is a playful way to suggest that these contradictions can lead to distrust or confusion. The humor in this meme is derived from the unexpected contrast between the names of the countries and their actual physical characteristics. | 1.0`,
];

function judgePrompt({ question, targets: [answer = ''] }: VetSample, said: string, column: string): string {
  const head = `${instruction}\n${column} | Ground truth | Prediction | Correctness\n--- | --- | --- | ---\n${examples.join('\n')}\n`;
  const truth = answer.replaceAll('<AND>', ' <AND> ').replaceAll('<OR>', ' <OR> ');
  return `${head}\n${question} | ${truth} | ${said} |`;
}

const user = (content: string, temperature: number, maxTokens: number): JudgeCall => ({
  messages: [{ role: 'user', content }],
  temperature,
  maxTokens,
});

const judge: JudgeQuestion<VetSample> = {
  usual: 'gpt-4-0613',
  attempts: 5,
  call(sample, answer, attempt) {
    const again = attempt === 0 ? '' : '\nPredict the correctness of the answer (digit): ';
    return user(`${judgePrompt(sample, answer, 'Question')} ${again}`, 0.5 * attempt, 3);
  },
  verdict(_, reply) {
    const grade = float(strip(strip(reply).split(' ')[0] ?? ''));
    return grade !== undefined && grade >= 0 && grade <= 1 ? { parsed: String(grade), score: grade } : undefined;
  },
  giveUp: () => ({ parsed: '', score: 0 }),
};

function aggregate(scored: readonly Scored<VetSample>[]): readonly Metric[] {
  const sets = [...new Set(scored.map(({ sample }) => sample.category))].filter((set) => set !== '').sort();
  const single = abilities.filter((ability) => scored.some(({ sample }) => sample.abilities.includes(ability)));
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, score } of group) {
        // A set of one ability has the ability's name, so the sums of sets are called otherwise.
        for (const key of ['total', ...sample.abilities, ...(sample.category === '' ? [] : [`only ${sample.category}`])]) {
          add(`${key} n`, 1);
          add(key, score);
        }
      }
    },
    values: (sum) =>
      ['total', ...single, ...sets.map((set) => `only ${set}`)].map((name) => ({
        name,
        value: (sum(name) / sum(`${name} n`)) * 100,
        count: sum(`${name} n`),
        max: 100,
      })),
  });
}

/** How far the totals of several runs of the judge lie apart. */
function notes(scored: readonly Scored<VetSample>[]): string[] {
  const grades = scored.map(({ parsed }) => parsed.split(', ').map(Number));
  const runs = Math.min(...grades.map(({ length }) => length));
  if (scored.length === 0 || runs < 2) return [];
  const totals = Array.from({ length: runs }, (_, run) => average(grades.map((one) => 100 * (one[run] ?? 0))));
  const deviation = Math.sqrt(average(totals.map((total) => (total - average(totals)) ** 2)));
  return [`judged ${runs} times, the totals have a standard deviation of ${deviation.toFixed(1)}`];
}

/** Grades out of MM-Vet's own file: for each question a list, one for each run of the judge. */
function graded(rows: readonly AnswerRow[], samples: readonly VetSample[] | undefined): Scored<VetSample>[] | undefined {
  const known = new Map(samples?.map((sample) => [sample.id, sample]));
  const scored = rows.map(({ id = '', text, row }): Scored<VetSample> | undefined => {
    const grades = z.array(z.number()).min(1).safeParse(row['score']);
    if (!grades.success) return undefined;
    const sample = known.get(id) ?? { id, question: '', images: [], targets: [], category: '', abilities: [] };
    return { sample, answer: text, parsed: grades.data.join(', '), score: average(grades.data) };
  });
  return scored.every((one) => one !== undefined) ? scored : undefined;
}

/** Open questions that combine six abilities, graded from 0 to 1 by a judge. Yu et al. 2023, arXiv:2308.02490; 218 questions. */
export const mmVet: Task<VetSample> = {
  name: 'mm-vet',
  about: 'open answers that combine recognition, reading, knowledge, writing, space and arithmetic; needs a judge (usually gpt-4-0613)',
  maxNewTokens: 1024,
  ...published<VetSample>(
    ['mm-vet', 'MM-Vet'],
    [
      {
        layout: 'LLaVA and MM-Vet',
        files: ['mm-vet.json|mm-vet/mm-vet.json', 'images/|mm-vet/images/'],
        from: 'github.com/yuweihao/MM-Vet (release v1, mm-vet.zip)',
        read: (found) => ownSamples(found.one(0), found.one(1)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/MMVet',
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
  notes,
  submission: (scored) => Object.fromEntries(scored.map(({ sample, answer = '' }) => [sample.id, answer])),
  lmmsEval: {
    prompt: ({ images, question }) =>
      ask(
        images,
        `First please perform reasoning, and think step by step to provide best answer to the following question: \n\n${question}`,
      ),
    judge: {
      ...judge,
      usual: 'gpt-4o-2024-11-20',
      call: (sample, answer, attempt) => user(judgePrompt(sample, answer, 'gpt_query_prompt'), 0.5 * attempt, 128),
    },
  },
};
