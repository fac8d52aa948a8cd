import { expect, test } from 'vitest';
import { progress } from '../../src/cli/quickstart/launch.ts';
import { curveSteps, fiveQuestions, heldOutSamples } from '../../src/cli/quickstart/questions.ts';
import { StatusLine } from '../../src/cli/quickstart/status-line.ts';
import { scoreText, summary } from '../../src/cli/quickstart/summary.ts';
import type { ReportScore } from '../../src/evaluate/html/data.ts';
import type { Sample } from '../../src/evaluate/task.ts';

const sample = (image: number, category: string): Sample => ({
  id: `${image}-${category}`,
  question: 'what is it?',
  images: [`test/images/${image}.png`],
  targets: ['circle'],
  category,
});
const samples = Array.from({ length: 30 }, (_, image) =>
  ['shape', 'colour', 'yes/no', 'yes/no'].map((category) => sample(image, category)),
).flat();

test('five questions are about five pictures and of every type, and another seed asks others', () => {
  const five = fiveQuestions(samples, 0);
  expect(five.map(({ category }) => category)).toEqual(['shape', 'colour', 'yes/no', 'yes/no', 'yes/no']);
  expect(new Set(five.map(({ images }) => images[0])).size).toBe(5);
  expect(fiveQuestions(samples, 0)).toEqual(five);
  expect(fiveQuestions(samples, 1)).not.toEqual(five);
});

test('questions for the curve are about held-out pictures alone', () => {
  const held = heldOutSamples(samples, new Set([3, 4]), { seed: 0, count: 5 });
  expect(held).toHaveLength(5);
  expect(held.every(({ images }) => ['test/images/3.png', 'test/images/4.png'].includes(images[0] ?? ''))).toBe(true);
});

test('the curve has its points closer together at the beginning, and always at the end', () => {
  expect([...curveSteps(1000, 5)]).toEqual([1, 40, 160, 360, 640, 1000]);
  expect([...curveSteps(4, 2)]).toEqual([1, 4]);
});

const scores: ReportScore[] = [
  {
    name: 'all',
    count: 9673,
    correct: 9615,
    accuracy: { value: 0.994, low: 0.9926, high: 0.9955 },
    baselines: { majority: 0.435, 'question only': 0.669 },
    goal: 0.96,
  },
  {
    name: 'shape',
    count: 1257,
    correct: 1207,
    accuracy: { value: 0.96, low: 0.948, high: 0.97 },
    baselines: { majority: 0.358 },
    goal: 0.97,
  },
];

test('scores are a table on a wide terminal and blocks on a narrow one', () => {
  expect(scoreText(scores, 80)).toMatchInlineSnapshot(`
    "       questions   model  95 % interval  majority  question only          goal
    all        9,673  99.4 %    99.3 - 99.6    43.5 %         66.9 %  96 % reached
    shape      1,257  96.0 %    94.8 - 97.0    35.8 %                  97 % MISSED"
  `);
  expect(scoreText(scores, 40)).toMatchInlineSnapshot(`
    "all
      questions: 9,673
      model: 99.4 %
      95 % interval: 99.3 - 99.6
      majority: 43.5 %
      question only: 66.9 %
      goal: 96 % reached
    shape
      questions: 1,257
      model: 96.0 %
      95 % interval: 94.8 - 97.0
      majority: 35.8 %
      goal: 97 % MISSED"
  `);
});

test('the summary says what was missed, what was asked and what to do next, within the width of the terminal', () => {
  const text = summary(
    {
      out: 'runs/quickstart',
      data: 'runs/quickstart/data',
      checkpoint: 'runs/quickstart/instruct',
      report: 'runs/quickstart/report.html',
      seed: 0,
      seconds: { training: 124, evaluation: 9, all: 141 },
      scores,
      goalsReached: false,
      asked: [
        {
          image: 'runs/quickstart/data/test/images/3.png',
          question: 'is no red shape present?',
          answer: 'yes',
          truth: 'yes',
          type: 'yes/no',
          correct: true,
        },
        {
          image: 'runs/quickstart/data/test/images/5.png',
          question: 'what shape is present?',
          answer: 'circle',
          truth: 'triangle',
          type: 'shape',
          correct: false,
        },
      ],
    },
    { columns: 40, command: 'npx tinyllava' },
  );
  expect(text).toMatchInlineSnapshot(`
    "
    Right answers on pictures that it has
    not seen, beside answering without
    looking:

    all
      questions: 9,673
      model: 99.4 %
      95 % interval: 99.3 - 99.6
      majority: 43.5 %
      question only: 66.9 %
      goal: 96 % reached
    shape
      questions: 1,257
      model: 96.0 %
      95 % interval: 94.8 - 97.0
      majority: 35.8 %
      goal: 97 % MISSED

    Goals missed: shape.

    Five questions about such pictures:

    runs/quickstart/data/test/images/3.png:
    is no red shape present?
      right: yes
    runs/quickstart/data/test/images/5.png:
    what shape is present?
      WRONG: circle (truth: triangle)

    2 min 04 s of training, 9 s of
    evaluation, 2 min 21 s in all.

    Look at the report:
      runs/quickstart/report.html
    Ask, talk, evaluate again:
      npx tinyllava ask runs/quickstart/instruct --image runs/quickstart/data/test/images/3.png "is no red shape present?"
      npx tinyllava chat runs/quickstart/instruct
      npx tinyllava eval runs/quickstart/instruct --tasks easy-vqa --data runs/quickstart/data"
  `);
});

test('progress fits a narrow terminal', () => {
  let text = '';
  const write = (more: string): void => {
    text += more;
  };
  const log = progress(new StatusLine({ isTTY: true, columns: 40, write }));
  log({ event: 'data', captions: 3399, questions: 37_007 });
  log({ event: 'stage', stage: 'align' });
  log({ event: 'step', stage: 'align', step: 1, steps: 1107, loss: 3.5, secondsLeft: 65, tokensPerSecond: 5432.1 });
  log({ event: 'step', stage: 'align', step: 1107, steps: 1107, loss: 0.5, secondsLeft: 0, tokensPerSecond: 5432.1 });
  log({ event: 'evaluating' });
  log({ event: 'answered', done: 1, samples: 2, meanScore: 0.5 });
  log({ event: 'evaluated', samples: 9673 });
  const lines = text
    .replaceAll('\r\u001b[2K', '\n')
    .split('\n')
    .filter((line) => line !== '');
  expect(lines.map((line) => line.length).filter((length) => length > 39)).toEqual([]);
  expect(lines).toEqual([
    'data       3,399 captions',
    'align        0 %  1 min 05 s left',
    'align      100 %  loss 3.350  0 s',
    'test        50 %  right 50.0 %',
    'test       9,673 questions  0 s',
  ]);
});
