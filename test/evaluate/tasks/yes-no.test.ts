import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { scoreAnswers } from '../../../src/evaluate/score-answers.ts';
import { inProfile } from '../../../src/evaluate/task.ts';
import { mme } from '../../../src/evaluate/tasks/mme.ts';
import { pope } from '../../../src/evaluate/tasks/pope.ts';
import { asked, samplesOf, score, writeFiles } from './open-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-yes-no-'));
afterAll(() => rmSync(root, { recursive: true }));

const things = ['dog', 'car', 'cup', 'bus'];
const question = (thing: string): string => `Is there a ${thing} in the image?`;
const labels = (right: readonly string[]) =>
  things.map((thing, i) => ({ question_id: i + 1, image: `${i % 2}.jpg`, text: question(thing), label: right[i] }));
const asksLlava = (category: string, first: number) =>
  things.map((thing, i) => ({
    question_id: first + i,
    image: `${i % 2}.jpg`,
    text: `${question(thing)}\nAnswer the question using a single word or phrase.`,
    category,
  }));

const popeFolder = writeFiles(join(root, 'pope'), {
  'llava_pope_test.jsonl': [...asksLlava('adversarial', 1), ...asksLlava('popular', 101), ...asksLlava('random', 201)],
  'coco/coco_pope_adversarial.json': labels(['yes', 'no', 'yes', 'no']),
  'coco/coco_pope_popular.json': labels(['yes', 'yes', 'no', 'no']),
  'coco/coco_pope_random.json': labels(['no', 'no', 'yes', 'yes']),
});

describe('POPE', () => {
  test.each([
    ['No', 'no'],
    ['no, there is not', 'no'],
    ['There is not. Yes', 'no'],
    ['Yes. There is no dog', 'yes'],
    ['NO', 'yes'],
    ['Nope', 'yes'],
    ['none', 'yes'],
    ['', 'yes'],
    ['not,a dog', 'yes'],
  ])('reads %j as %s', (answer, expected) => {
    const sample = { id: '1', question: '', images: [], targets: ['yes'], category: 'random', splits: ['random'] };
    expect(pope.score(sample, answer).parsed).toBe(expected);
  });

  test('joins questions with labels by their order, and asks as LLaVA does', async () => {
    const samples = await samplesOf(pope, root);
    expect(samples.map(({ targets }) => targets[0]).join(' ')).toBe('yes no yes no yes yes no no no no yes yes');
    expect(asked(pope, samples[0] as never)).toEqual({
      text: 'Is there a dog in the image?\nAnswer the question using a single word or phrase.',
      images: [join(popeFolder, 'val2014/0.jpg')],
    });
  });

  test('has a table for each split; what is neither is counted, and what is missing is wrong', async () => {
    const said = {
      1: 'Yes',
      2: 'perhaps',
      3: 'no',
      4: 'no',
      101: 'yes',
      102: 'yes',
      103: 'no',
      104: 'no',
      201: 'Yes',
      202: 'no',
      203: 'yes',
    };
    const { scores, counts, missing, unparsed } = await score('pope', popeFolder, said);
    expect(scores).toMatchObject({
      'adversarial accuracy': 0.5,
      'adversarial F1': 0.5,
      'popular F1': 1,
      'random accuracy': 0.5,
      'random yes ratio': 0.5,
    });
    expect(scores['mean F1']).toBeCloseTo((100 * (0.5 + 1 + 0.5)) / 3, 9);
    expect(counts).toMatchObject({ 'adversarial FP': 1, 'adversarial FN': 1, 'random FN': 1, 'random FP': 1 });
    expect({ missing, unparsed }).toEqual({ missing: 1, unparsed: 1 });
  });

  test("wants nothing but yes or no in lmms-eval's profile, and pools the splits", async () => {
    const said = Object.fromEntries([1, 2, 3, 4, 101, 102, 103, 104, 201, 202, 203, 204].map((id) => [id, id === 1 ? 'Yes.' : ' YES ']));
    const { scores } = await score('pope', popeFolder, said, 'lmms-eval');
    expect(scores).toMatchObject({ accuracy: 5 / 12, recall: 1, precision: 5 / 11 });
  });

  test('takes the labels of later releases, which have more questions and a misspelling less', async () => {
    const image = 'COCO_val2014_000000210789.jpg';
    const line = (n: number, thing: string, seen = 'image') => ({ question_id: n, image, text: `Is there ${thing} in the ${seen}?` });
    const folder = writeFiles(join(root, 'later'), {
      'llava_pope_test.jsonl': [line(11, 'an umbrella', 'imange'), line(13, 'a cup')].map(({ text, ...row }) => ({
        ...row,
        text: `${text}\nAnswer the question using a single word or phrase.`,
        category: 'adversarial',
      })),
      'coco_pope_adversarial.json': [
        { ...line(11, 'an umbrella'), label: 'yes' },
        { ...line(12, 'a handbag'), label: 'no' },
        { ...line(13, 'a cup'), label: 'no' },
      ],
      'coco_pope_popular.json': [],
      'coco_pope_random.json': [],
    });
    expect((await samplesOf(pope, folder)).map(({ id, targets }) => [id, targets])).toEqual([
      ['11', ['yes']],
      ['13', ['no']],
    ]);
  });

  test('refuses a table of another benchmark', async () => {
    const folder = writeFiles(join(root, 'other'), {
      'POPE.tsv': 'index\tquestion\tanswer\tcategory\n1\tIs it?\tYes\texistence\n',
    });
    await expect(pope.open(folder)).rejects.toThrow('POPE has no split "existence"');
  });

  test('refuses labels of other questions', async () => {
    const folder = writeFiles(join(root, 'other'), {
      'llava_pope_test.jsonl': asksLlava('random', 1),
      'coco_pope_adversarial.json': labels([]).map((row) => ({ ...row, label: 'no' })),
      'coco_pope_popular.json': [],
      'coco_pope_random.json': labels(['no', 'no', 'no', 'no']).slice(1),
    });
    await expect(samplesOf(pope, folder)).rejects.toMatchObject({
      message: expect.stringContaining('question 1 is not among the labels of split random'),
      hint: expect.stringContaining('github.com/AoiDragon/POPE'),
    });
  });
});

describe('MME', () => {
  const rows = ['existence', 'OCR', 'code_reasoning'].flatMap((category) =>
    ['a', 'b'].flatMap((image) =>
      ['Is it?', 'Is it not?'].map((text) => ({
        question_id: `${category}/${image}.png`,
        image: `${category}/${image}.png`,
        text: `${text}\nAnswer the question using a single word or phrase.`,
        category,
      })),
    ),
  );
  const truth = 'Is it? Please answer yes or no.\tYes\nIs it not?  Please answer yes or no.\tNo\n';
  const folder = writeFiles(join(root, 'MME'), {
    'llava_mme.jsonl': rows,
    'MME_Benchmark_release_version/existence/a.txt': truth,
    'MME_Benchmark_release_version/existence/b.txt': truth,
    'MME_Benchmark_release_version/OCR/questions_answers_YN/a.txt': truth,
    'MME_Benchmark_release_version/OCR/questions_answers_YN/b.txt': truth,
    'MME_Benchmark_release_version/OCR/images/a.png': '',
    'MME_Benchmark_release_version/code_reasoning/a.txt': truth,
    'MME_Benchmark_release_version/code_reasoning/b.txt': truth,
    ...Object.fromEntries(
      [
        'count',
        'position',
        'color',
        'posters',
        'celebrity',
        'scene',
        'landmark',
        'artwork',
        'commonsense_reasoning',
        'numerical_calculation',
        'text_translation',
      ].map((category) => [`MME_Benchmark_release_version/${category}/none.md`, '']),
    ),
  });
  // An answers file has two rows of one id: the prompt says which is which.
  const answers = join(folder, 'answers.jsonl');
  const write = (say: (row: (typeof rows)[number], i: number) => string): void =>
    writeFileSync(
      answers,
      [...rows]
        .reverse()
        .map((row, i) => JSON.stringify({ question_id: row.question_id, prompt: row.text, text: say(row, rows.length - 1 - i) }))
        .join('\n'),
    );

  test('asks in the profile of lmms-eval as it does, with the space that is left of two', async () => {
    const table = [
      'index\tquestion\tanswer\tcategory',
      ...truth
        .trimEnd()
        .split('\n')
        .map((line, i) => `${i}\t${line}\texistence`),
    ];
    const samples = await samplesOf(mme, writeFiles(join(root, 'spaces'), { 'MME.tsv': table.join('\n') }));
    const texts = (task: typeof mme) => samples.map((sample) => asked(task, sample).text.split('\n')[0]);
    expect([texts(mme), texts(inProfile(mme, 'lmms-eval'))]).toEqual([
      ['Is it?', 'Is it not?'],
      ['Is it?', 'Is it not? '],
    ]);
  });

  test('adds accuracy by question and by image', async () => {
    write((row, i) => (i === 1 ? 'other' : row.text.startsWith('Is it?') ? 'Yes' : 'No'));
    const { scores } = await scoreAnswers('mme', { answers, data: root });
    expect(scores).toEqual({ perception: 75 + 50 + 200, cognition: 200, existence: 125, OCR: 200, code_reasoning: 200 });
  });

  test('has images beside the questions or in images/', async () => {
    const samples = await samplesOf(mme, root);
    expect([samples[4]?.images[0], samples[6]?.images[0]]).toEqual(
      ['OCR/images/a.png', 'OCR/b.png'].map((name) => join(folder, 'MME_Benchmark_release_version', name)),
    );
  });

  test.each([
    ['I think yes', 'other', 'other'],
    ['Not', 'no', 'no'],
    ['y', 'other', 'yes'],
    [' yes', 'yes', 'yes'],
    ['   yes', 'other', 'yes'],
    ['n.o', 'other', 'no'],
    ['noyes', 'no', 'no'],
    ['yno', 'no', 'no'],
  ])('reads %j as %s, and by lmms-eval as %s', (answer, official, lmms) => {
    const sample = { id: '1', question: '', images: [], targets: ['yes'], category: 'OCR', pair: 'a' };
    expect([mme.score(sample, answer).parsed, inProfile(mme, 'lmms-eval').score(sample, answer).parsed]).toEqual([official, lmms]);
  });
});
