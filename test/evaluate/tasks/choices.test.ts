import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readXlsx } from 'hucre/xlsx';
import { afterAll, describe, expect, test } from 'vitest';
import { extractedChoice, inferredChoice, mmbenchChoice, mmmuChoice } from '../../../src/evaluate/choice.ts';
import { openCandidates, openMatches } from '../../../src/evaluate/mmmu-open.ts';
import { pythonList } from '../../../src/evaluate/python-list.ts';
import { submissionContent } from '../../../src/evaluate/submission.ts';
import { xlsxRows } from '../../../src/evaluate/tables/xlsx.ts';
import { inProfile } from '../../../src/evaluate/task.ts';
import { mmBenchCn, mmBenchEn } from '../../../src/evaluate/tasks/mm-bench.ts';
import { mmStar } from '../../../src/evaluate/tasks/mm-star.ts';
import { mmmu } from '../../../src/evaluate/tasks/mmmu.ts';
import { asked, samplesOf, score, writeFiles } from './open-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-choices-'));
afterAll(() => rmSync(root, { recursive: true }));

const options = { A: 'a cat', B: 'the dog', C: 'two birds', D: 'none' };

describe('a letter is found in an answer', () => {
  // The second column by VLMEvalKit, the third by MMBench's evaluator of lmms-eval, the fourth by its shared extractor.
  test.each([
    ['B', 'B', 'B', 'B'],
    ['(B)', 'B', 'B', 'B'],
    ['B. the dog', 'B', 'B', 'B'],
    ['The answer is C.', 'C', 'C', 'C'],
    ['the dog', 'B', 'B', undefined],
    ['A dog is in the picture', undefined, undefined, 'A'],
    ['I think it is D because A is wrong', undefined, undefined, 'A'],
    ['Dog', undefined, undefined, 'D'],
    ['', undefined, undefined, undefined],
    ['Cannot determine the answer', 'Z', undefined, 'C'],
  ])('%j', (answer, kit, bench, shared) => {
    expect([inferredChoice(answer, options), mmbenchChoice(answer, options), extractedChoice(answer, Object.keys(options))]).toEqual([
      kit,
      bench,
      shared,
    ]);
  });

  test('by MMMU in brackets, then as a word, then by the text of long answers; of several the last', () => {
    const by = (answer: string) => [mmmuChoice(answer, options, 'spaces'), mmmuChoice(answer, options, 'lmms-eval')];
    expect(by('(A) or rather (C).')).toEqual(['C', 'C']);
    expect(by('A, no, B')).toEqual(['B', 'B']);
    expect(by('OptionB is right')).toEqual([undefined, 'B']);
    expect(by('it must be the dog over there, I think')).toEqual(['B', 'B']);
    expect(by('the dog')).toEqual([undefined, undefined]);
  });
});

describe('an open answer of MMMU', () => {
  test.each([
    ['The answer is 12.', ['12'], true],
    ['x = 1,000', ['1000'], true],
    ['2.675', ['2.67'], true],
    ['about 3.14159', ['3.14'], true],
    ['so it is Newton', ['newton'], true],
    ['b', ['b'], true],
    ['it is b then', ['b'], true],
    ['between 5 and 7', ['6'], false],
    ['', ['x'], false],
    ['24/7', ['24/7', '3.429'], true],
    ['nan', ['NaN'], false],
  ])('%j against %j is %s', (answer, truths, right) => expect(openMatches(openCandidates(answer), truths)).toBe(right));
});

describe('MMBench', () => {
  const head = 'index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\tl2-category\timage';
  const rows = [
    '0\tWhich?\tLook.\tcat\tdog\tbird\tnan\tB\tocr\tfine\tAAAA',
    '1000000\tWhich?\tLook.\tdog\tbird\tcat\tnan\tA\tocr\tfine\tAAAA',
    '1\tHow?\tnan\tred\tblue\t\t\tA\tcolour\tcoarse\tAAAA',
    '1000001\tHow?\tnan\tblue\tred\t\t\tB\tcolour\tcoarse\tAAAA',
  ];
  const folder = writeFiles(join(root, 'mmbench'), { 'mmbench_dev_20230712.tsv': `${head}\n${rows.join('\n')}\n` });

  const testTable = {
    'MMBench_TEST_EN.tsv': 'index\tquestion\tA\tB\tcategory\tsplit\timage\n3\t=Which?\tcat\tdog\tocr\ttest\tAAAA\n',
  };

  test('of dev is read where test lies beside it, whatever their forms', async () => {
    const both = writeFiles(join(root, 'mmbench-forms'), testTable);
    cpSync(join(import.meta.dirname, '../../reference/hugging-face/mmbench-en'), both, { recursive: true });
    expect(await samplesOf(mmBenchEn, both)).toMatchObject([{ question: 'Which?', targets: [expect.any(String)] }]);
  });

  test('counts a question as right when all its rotations are', async () => {
    const { scores } = await score('mmbench-en', folder, { 0: 'B', 1000000: 'A', 1: 'A', 1000001: 'A' });
    expect(scores).toEqual({ circular: 50, vanilla: 100, coarse: 0, fine: 100, colour: 0, ocr: 100 });
  });

  test("of test has no scores, and gives the table that the benchmark's server takes", async () => {
    const test = writeFiles(join(root, 'mmbench-test'), testTable);
    const { unscored, submission } = await score('mmbench-en', test, { 3: 'A\u0001' });
    expect(unscored).toContain('not public');
    const file = join(test, 'upload.xlsx');
    writeFileSync(file, await submissionContent(submission, mmBenchEn.submissionForm));
    // Equal runs leave equal files.
    expect((await readXlsx(readFileSync(file))).properties?.modified).toEqual(new Date(0));
    const row = { index: '3', question: '=Which?', A: 'cat', B: 'dog', prediction: 'A\u0001', split: 'test' };
    expect(await xlsxRows(file)).toEqual([row]);
    expect(Object.keys((submission as readonly object[])[0] ?? {})).toEqual([
      'index',
      'question',
      'A',
      'B',
      'C',
      'D',
      'prediction',
      'split',
    ]);
  });

  test('of one release is read where both lie side by side', async () => {
    const table = (question: string): string => `index\tquestion\tA\tB\timage\n3\t${question}\tcat\tdog\tAAAA\n`;
    const both = { 'MMBench_TEST_EN.tsv': table('Which?'), 'MMBench_TEST_EN_V11.tsv': table('How many?') };
    expect((await samplesOf(mmBenchEn, writeFiles(join(root, 'mmbench-both'), both))).map(({ question }) => question)).toEqual(['Which?']);
    const later = { 'MMBench_TEST_EN_V11.tsv': table('How many?') };
    expect((await samplesOf(mmBenchEn, writeFiles(join(root, 'mmbench-v11'), later))).map(({ question }) => question)).toEqual([
      'How many?',
    ]);
  });

  test('is asked as each profile and language has it', async () => {
    const [first, , third] = await samplesOf(mmBenchEn, folder);
    const letter = "Answer with the option's letter from the given choices directly.";
    expect(first && asked(mmBenchEn, first).text).toBe(`Look.\nWhich?\nA. cat\nB. dog\nC. bird\n${letter}`);
    expect(third && asked(mmBenchEn, third).text).toBe(`How?\nA. red\nB. blue\n${letter}`);
    expect(first && asked(inProfile(mmBenchEn, 'lmms-eval'), first).text).toBe(
      `Look. Which? There are several options:\nA. cat\nB. dog\nC. bird\n\n${letter}`,
    );
    expect(first && asked(mmBenchCn, first).text).toMatch(/\n请直接回答选项字母。$/);
  });
});

describe('MMMU', () => {
  const folder = writeFiles(join(root, 'MMMU'), {
    'anns_for_eval.json': [
      {
        id: 'validation_Art_1',
        prompt: '<image>\nWhich?\n\n(A) x\n(B) y',
        question_type: 'multiple-choice',
        image: '1.png',
        index2ans: { A: 'x', B: 'y' },
        all_choices: ['A', 'B'],
      },
      { id: 'validation_Math_2', prompt: 'How much?', question_type: 'short-answer' },
      { id: 'validation_Math_3', prompt: 'Which?', question_type: 'multiple-choice', index2ans: { A: 'x', B: 'y' } },
    ],
    'answer_dict_val.json': {
      validation_Art_1: { question_type: 'multiple-choice', ground_truth: 'B' },
      validation_Math_2: { question_type: 'short-answer', ground_truth: ['7', 'seven'] },
      validation_Math_3: { question_type: 'multiple-choice', ground_truth: 'A' },
    },
  });

  test("is read as TinyLLaVA has it; what cannot be read is wrong where MMMU's script draws a letter", async () => {
    const said = { validation_Art_1: 'Answer: (B)', validation_Math_2: 'It is 7.0', validation_Math_3: 'no idea' };
    const { scores, unparsed, notes } = await score('mmmu', folder, said);
    expect(notes).toEqual([
      expect.stringMatching(
        /^2 questions about several images, .* are asked without them; TinyLLaVA Factory draws a letter, or counts an open one wrong$/,
      ),
    ]);
    expect(scores).toMatchObject({
      accuracy: (2 / 3) * 100,
      'Art and Design': 100,
      Science: 50,
      Art: 100,
      Math: 50,
      open: 100,
      'multiple choice': 50,
    });
    expect(unparsed).toBe(1);
    const [first] = await samplesOf(mmmu, folder);
    expect(first && asked(mmmu, first)).toEqual({ text: 'Which?\n\n(A) x\n(B) y', images: [join(folder, 'all_images/1.png')] });
  });

  test('has its options in a list of Python', () => {
    expect(pythonList(`['$6', "that's \\"it\\"", 'a\\nb', '\\u00e9']`)).toEqual(['$6', `that's "it"`, 'a\nb', 'é']);
    expect(pythonList('[]')).toEqual([]);
  });
});

test('MMStar reads four places by its own rule, and averages axes by that of lmms-eval', () => {
  const sample = (axis: string, category: string) => ({ id: axis, question: '', images: [], targets: ['B'], category, axis });
  const one = sample('counting', 'math');
  expect(['B', 'b. dog', '(B', 'Option B', 'The answer is B', 'is B', ''].map((answer) => mmStar.score(one, answer).score)).toEqual([
    1, 1, 1, 1, 1, 0, 0,
  ]);
  const scored = [
    { sample: one, parsed: 'B', score: 1 },
    { sample: { ...one, id: '2' }, parsed: 'A', score: 0 },
    { sample: { ...one, id: '3' }, parsed: 'A', score: 0 },
    { sample: sample('geometry', 'math'), parsed: 'B', score: 1 },
  ];
  expect(mmStar.aggregate(scored)[0]?.value).toBe(50);
  expect(inProfile(mmStar, 'lmms-eval').aggregate(scored)[0]?.value).toBeCloseTo((100 * (1 / 3 + 1)) / 2, 9);
});
