import { join } from 'node:path';
import { z } from 'zod';
import { letters, optionLetter, optionLines, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { strip } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { mean, means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task, Verdict } from '../task.ts';
import { readJson } from './vqa-files.ts';

interface ScienceSample extends Sample {
  readonly options: number;
  /** What the benchmark breaks its scores down by, where the file says it. */
  readonly subject?: string | undefined;
  readonly grade?: string | undefined;
  readonly topic?: string | undefined;
  /** Whether a text stands before the question. */
  readonly hinted: boolean;
}

const Turn = z.looseObject({ from: z.string(), value: z.string() });
const Question = z.looseObject({ id: z.string(), image: z.string().optional(), conversations: z.tuple([Turn, Turn]) });
const Problem = z.looseObject({
  subject: z.string(),
  grade: z.string(),
  topic: z.string(),
  choices: z.array(z.string()),
  image: z.string().nullish(),
});
const Row = z.looseObject({
  question: z.string(),
  choices: z.array(z.string()).min(1),
  answer: z.int().nonnegative(),
  hint: z.string().default(''),
  subject: z.string().optional(),
  grade: z.string().optional(),
  topic: z.string().optional(),
  image: z.string().optional(),
});

async function problems(file: string): Promise<Map<string, z.output<typeof Problem>>> {
  if (file === '') return new Map();
  return new Map(Object.entries(await readJson(file, z.record(z.string(), Problem))));
}

const grade = (text: string | undefined): string | undefined =>
  text === undefined ? undefined : Number(text.replace('grade', '')) <= 6 ? 'grade 1-6' : 'grade 7-12';

async function llavaSamples(file: string, problemsFile: string, folder: string): Promise<ScienceSample[]> {
  const rows = await readRows(file, Question);
  const more = await problems(problemsFile);
  return rows.map(({ id, image, conversations: [human, gpt] }) => {
    const question = strip(human.value.replace('<image>', ''));
    const problem = more.get(id);
    return {
      id,
      question,
      images: image === undefined ? [] : [join(folder, image)],
      targets: [gpt.value],
      category: image === undefined ? 'text' : 'image',
      options: problem?.choices.length ?? optionsIn(question),
      subject: problem?.subject,
      grade: grade(problem?.grade),
      topic: problem?.topic,
      hinted: question.startsWith('Context: '),
    };
  });
}

/** How many options a prompt ends with. */
function optionsIn(question: string): number {
  let count = 0;
  while (question.includes(`\n${letters[count]}. `)) count += 1;
  return count;
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<ScienceSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question, choices, answer, hint, subject, grade: school, topic, image }, i) => ({
    id: String(i),
    question: `${hint === '' ? '' : `Context: ${hint}\n`}${question}\n${optionLines(choices)}`,
    images: image === undefined ? [] : [image],
    targets: [letters[answer] ?? ''],
    category: image === undefined ? 'text' : 'image',
    options: choices.length,
    subject,
    grade: grade(school),
    topic,
    hinted: hint !== '',
  }));
}

/** LLaVA's reading of an answer: a letter, a letter with `. ` and more, or the one `The answer is X` with any character behind it. */
function letterOf(answer: string): string | undefined {
  if (/^[A-E]$/.test(answer)) return answer;
  if (/^[A-E]\. /.test(answer)) return answer[0];
  const said = [...answer.matchAll(/The answer is ([A-Z])[^\n]/gu)];
  return said.length === 1 ? said[0]?.[1] : undefined;
}

function official({ targets, options }: ScienceSample, answer: string): Verdict {
  const letter = letterOf(answer);
  // A letter that is no option of this question is as wrong as none.
  if (letter === undefined || letters.indexOf(letter) >= options) return unparsed(answer);
  return verdict(letter, letter === targets[0]);
}

function lmmsEval({ targets }: ScienceSample, answer: string): Verdict {
  const target = targets[0] ?? '';
  const text = strip(answer);
  if (text.toLowerCase() === target.toLowerCase()) return verdict(text, true);
  // Python's isupper of one character.
  const [first = '', second] = text;
  if (second === '.' && /^\p{Uppercase}|\p{Lt}$/u.test(first)) return verdict(first, first.toLowerCase() === target.toLowerCase());
  return /^[a-z]$/i.test(text) ? verdict(text, false) : unparsed(text);
}

/** What is beside a question, in groups that overlap, as in ScienceQA's own evaluation. */
const contexts: readonly ((sample: ScienceSample) => string | undefined)[] = [
  ({ hinted }) => (hinted ? 'text context' : undefined),
  ({ category }) => (category === 'image' ? 'image context' : undefined),
  ({ hinted, category }) => (hinted || category === 'image' ? undefined : 'no context'),
];

/** Science questions of school, some with an image or a text beside them. Lu et al. 2022, arXiv:2209.09513; 4241 in test, 2017 with an image. */
export const scienceQa: Task<ScienceSample> = {
  name: 'scienceqa',
  about: 'multiple choice of school science; headline the accuracy on questions with an image',
  maxNewTokens: 1024,
  ...published<ScienceSample>(
    ['scienceqa', 'ScienceQA', 'sqa'],
    [
      {
        layout: 'LLaVA',
        files: ['llava_test_CQM-A.json', '?problems.json', 'images/test/|test/'],
        from: "LLaVA's eval.zip, and images and problems.json from github.com/lupantech/ScienceQA",
        read: (found) => llavaSamples(found.one(0), found.one(1), found.one(2)),
      },
      {
        layout: 'lmms-eval',
        files: ['ScienceQA-FULL/test-*.parquet|ScienceQA-IMG/test-*.parquet|data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/ScienceQA (ScienceQA-FULL or ScienceQA-IMG)',
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(optionLetter),
  score: official,
  aggregate(scored) {
    const withImage = scored.filter(({ sample }) => sample.category === 'image');
    return [
      ...(withImage.length > 0 ? [mean('image accuracy', withImage, 100)] : []),
      ...means(scored, { name: 'accuracy', by: [({ subject }) => subject, ...contexts, (sample) => sample.grade, ({ topic }) => topic] }),
    ];
  },
  lmmsEval: { maxNewTokens: 16, score: lmmsEval },
};
