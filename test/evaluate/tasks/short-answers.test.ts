import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { scoreAnswers } from '../../../src/evaluate/score-answers.ts';
import { inProfile } from '../../../src/evaluate/task.ts';
import { gqa } from '../../../src/evaluate/tasks/gqa.ts';
import { scienceQa } from '../../../src/evaluate/tasks/science-qa.ts';
import { textVqa, textVqaOcr } from '../../../src/evaluate/tasks/text-vqa.ts';
import { vizWiz } from '../../../src/evaluate/tasks/viz-wiz.ts';
import { vqaV2 } from '../../../src/evaluate/tasks/vqa-v2.ts';
import { agreement, evalAiAnswer, officialVqa } from '../../../src/evaluate/vqa-answer.ts';
import { asked, samplesOf, score, writeFiles } from './open-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-short-'));
afterAll(() => rmSync(root, { recursive: true }));

const suffix = '\nAnswer the question using a single word or phrase.';
const ten = (right: string, count: number, other = 'other'): string[] => [...Array(count).fill(right), ...Array(10 - count).fill(other)];

describe('an answer of VQA', () => {
  test.each([
    ['The Two dogs.', '2 dogs'],
    ['1,000', '1000'],
    ['a/b', 'b'],
    ['3.', '3'],
    ['3.5', '3.5'],
    ['U.S.A.', 'usa'],
    ["it's", "it 's"],
    ['$5.00', '$5.00'],
    ['the', ''],
    ["dont somebody'd", "don't somebodyd"],
    ['.'.repeat(40), '.'.repeat(8)],
  ])('%j is compared as %j', (answer, expected) => expect(evalAiAnswer(answer)).toBe(expected));

  test('is worth what nine of ten people agree to', () => {
    expect([0, 1, 2, 3, 4, 10].map((count) => Number(agreement('cat', ten('cat', count)).toFixed(12)))).toEqual([0, 0.3, 0.6, 0.9, 1, 1]);
  });

  test("has to be the very text where all people say the same, by VQA's own evaluation", () => {
    expect([officialVqa('Yes', ten('yes', 10)).score, officialVqa('yes', ten('yes', 10)).score]).toEqual([0, 1]);
    expect(officialVqa('Yes.', ten('yes', 9)).score).toBe(1);
  });
});

describe('VQAv2', () => {
  const own = writeFiles(join(root, 'own/vqav2'), {
    'v2_OpenEnded_mscoco_val2014_questions.json': {
      data_subtype: 'val2014',
      questions: [
        { question_id: 10, image_id: 7, question: 'Is it?' },
        { question_id: 11, image_id: 7, question: 'How many?' },
      ],
    },
    'v2_mscoco_val2014_annotations.json': {
      annotations: [
        { question_id: 11, question_type: 'how many', answer_type: 'number', answers: ten('2', 3).map((answer) => ({ answer })) },
        { question_id: 10, question_type: 'is', answer_type: 'yes/no', answers: ten('yes', 10).map((answer) => ({ answer })) },
      ],
    },
  });

  test('is read as published, and broken down by kinds of answers and of questions', async () => {
    const [first] = await samplesOf(vqaV2, join(root, 'own'));
    expect(first && asked(vqaV2, first)).toEqual({ text: `Is it?${suffix}`, images: [join(own, 'val2014/COCO_val2014_000000000007.jpg')] });
    const said = { 10: 'Yes', 11: 'two' };
    expect((await score('vqav2', own, said)).scores).toEqual({ accuracy: 45, number: 90, 'yes/no': 0, 'how many': 90, is: 0 });
    // lmms-eval makes answers alike even where all people agree.
    expect((await score('vqav2', own, said, 'lmms-eval')).scores).toMatchObject({ accuracy: 95, number: 90, 'yes/no': 100 });
  });

  test('of test-dev gives a file to upload that has all questions of the test', async () => {
    const folder = writeFiles(join(root, 'dev'), {
      'llava_vqav2_mscoco_test-dev2015.jsonl': [{ question_id: 1, image: 'a.jpg', text: `Q?${suffix}` }],
      'llava_vqav2_mscoco_test2015.jsonl': [1, 2, 3].map((question_id) => ({ question_id, image: 'a.jpg', text: 'Q?' })),
    });
    const { submission, unscored, scores } = await score('vqav2', folder, { 1: 'The two dogs.' });
    expect(submission).toEqual([
      { question_id: 1, answer: '2 dogs' },
      { question_id: 2, answer: '' },
      { question_id: 3, answer: '' },
    ]);
    expect([scores, unscored]).toEqual([{}, expect.stringContaining('not public')]);
  });
});

test('VizWiz gives a file to upload, and asks with a capital first letter alone in the profile of lmms-eval', async () => {
  const folder = writeFiles(join(root, 'vizwiz'), {
    'llava_test.jsonl': [
      {
        question_id: 0,
        image: 'VizWiz_test_00000000.jpg',
        text: `what is THIS?\nWhen the provided information is insufficient, respond with 'Unanswerable'.${suffix}`,
      },
    ],
  });
  const { submission } = await score('vizwiz', folder, { 0: 'Unanswerable.' });
  expect(submission).toEqual([{ image: 'VizWiz_test_00000000.jpg', answer: 'unanswerable' }]);
  const [sample] = await samplesOf(vizWiz, folder);
  expect(sample && asked(inProfile(vizWiz, 'lmms-eval'), sample).text).toMatch(/^What is this\?\nWhen the provided/);
  expect(sample && asked(vizWiz, sample).text).toMatch(/^what is THIS\?\nWhen the provided/);
});

test.each([
  ['vqav2', vqaV2, 'llava_vqav2_mscoco_test-dev2015.jsonl', 'validation'],
  ['vizwiz', vizWiz, 'llava_test.jsonl', 'val'],
] as const)('%s is read in its public split where the files of test lie beside it', async (name, task, testFile, split) => {
  const folder = writeFiles(join(root, `both-${name}`), { [testFile]: [{ question_id: 0, image: 'a.jpg', text: 'Q?' }] });
  expect((await samplesOf(task, folder))[0]?.targets).toEqual([]);
  // TextVQA's table has the columns of theirs, and one that tells it from them.
  const table = readFileSync(join(import.meta.dirname, '../../reference/hugging-face/textvqa/data/validation-00000-of-00001.parquet'));
  const place = join(folder, `${split}-00000-of-00001.parquet`);
  writeFileSync(place, table);
  await expect(samplesOf(task, folder)).rejects.toThrow("ocr_tokens: TextVQA's, which is another benchmark");
  writeFileSync(place, table.toString('latin1').replaceAll('ocr_tokens', 'all_tokens'), 'latin1');
  expect((await samplesOf(task, folder))[0]?.targets).not.toEqual([]);
});

describe('TextVQA', () => {
  const text = (question: string, tokens: string): string => `${question}\nReference OCR token: ${tokens}${suffix}`;
  const folder = writeFiles(join(root, 'textvqa'), {
    'llava_textvqa_val_v051_ocr.jsonl': [
      { question_id: 'img', image: 'img.jpg', text: text('what is it?', 'STOP, 4') },
      { question_id: 'img', image: 'img.jpg', text: text('what is it? now', '') },
    ],
    'TextVQA_0.5.1_val.json': {
      data: [
        { question_id: 1, image_id: 'img', question: 'What is it?', answers: ten('stop', 10) },
        { question_id: 2, image_id: 'img', question: 'What is it? Now', answers: ten('four', 2) },
      ],
    },
  });

  test('is asked without the words of an OCR system, and with them under another name', async () => {
    const [first, second] = await samplesOf(textVqa, folder);
    expect(first && asked(textVqa, first).text).toBe(`what is it?${suffix}`);
    expect(first && asked(textVqaOcr, first).text).toBe(text('what is it?', 'STOP, 4'));
    expect(second && asked(textVqaOcr, second).text).toBe(text('what is it? now', ''));
    expect(first && asked(inProfile(textVqaOcr, 'lmms-eval'), first).text).toBe(text('What is it?', 'STOP, 4'));
  });

  test("finds the question in the prompt, because LLaVA's answers are named by their image", async () => {
    const answers = join(folder, 'answers.jsonl');
    const rows = [
      { question_id: 'img', prompt: text('what is it? now', ''), text: 'Four' },
      { question_id: 'img', prompt: text('what is it?', 'STOP, 4'), text: 'STOP' },
    ];
    writeFileSync(answers, rows.map((row) => JSON.stringify(row)).join('\n'));
    expect((await scoreAnswers('textvqa', { answers, data: folder })).scores).toEqual({ accuracy: 80 });
  });
});

test('GQA compares without a last full stop and case; lmms-eval without all punctuation', async () => {
  const folder = writeFiles(join(root, 'gqa'), {
    'llava_gqa_testdev_balanced.jsonl': [1, 2, 3].map((id) => ({ question_id: String(id), image: 'n1.jpg', text: `Q${id}?${suffix}` })),
    'testdev_balanced_questions.json': {
      1: {
        answer: 'yes',
        isBalanced: true,
        groups: { global: 'verify' },
        types: { structural: 'verify', semantic: 'rel' },
        semantic: [{ operation: 'select' }, { operation: 'exist' }],
      },
      2: {
        answer: 't-shirt',
        isBalanced: true,
        groups: { global: 'clothing' },
        types: { structural: 'query', semantic: 'obj' },
        semantic: [{ operation: 'select' }, { operation: 'relate' }, { operation: 'query', argument: 'name' }],
      },
      3: { answer: 'no', isBalanced: false },
    },
  });
  const said = { 1: 'Yes.', 2: 'T shirt' };
  expect((await samplesOf(gqa, folder)).length).toBe(2);
  expect((await score('gqa', folder, said)).scores).toEqual({
    accuracy: 50,
    ...{
      binary: 100,
      open: 0,
      'structural query': 0,
      'structural verify': 100,
      'semantic obj': 0,
      'semantic rel': 100,
      '1 step': 100,
      '2 steps': 0,
    },
  });
  // Right where it should be yes, and one t-shirt too few: (0 + 1) over 2, over 100.
  expect((await score('gqa', folder, said)).counts).toEqual({ distribution: 0.005 });
  expect((await score('gqa', folder, { 1: 'yes!', 2: 'tshirt' }, 'lmms-eval')).scores['accuracy']).toBe(100);
  expect((await score('gqa', folder, said)).submission).toEqual([
    { questionId: '1', prediction: 'yes' },
    { questionId: '2', prediction: 't shirt' },
  ]);
});

describe("GQA's own measures", () => {
  const question = (id: string, more: object) => ({
    question: `Is it number ${id}?`,
    imageId: 'n1',
    answer: 'yes',
    isBalanced: true,
    groups: { global: null, local: `${id}-x` },
    entailed: [id],
    types: { structural: 'verify', semantic: 'obj', detailed: 'existC' },
    semantic: [{ operation: 'select', argument: 'it (1)', dependencies: [] }],
    ...more,
  });
  const questions = {
    '01': question('01', { entailed: ['01', '02', '03'] }),
    '02': question('02', { isBalanced: false, entailed: ['02', '01'] }),
    '03': question('03', { answer: 'no', entailed: ['03', '01'] }),
    '04': question('04', {
      question: 'What do they have in common?',
      answer: 'color',
      groups: { global: 'common' },
      types: { structural: 'compare', semantic: 'attr', detailed: 'twoCommon' },
    }),
  };
  const choices = {
    '01': { valid: ['yes', 'no'], plausible: ['yes'] },
    '02': { valid: ['yes', 'no'], plausible: ['yes'] },
    '03': { valid: ['yes', 'no'], plausible: ['no'] },
    '04': { valid: [], plausible: [] },
  };
  const own = (name: string, files: object) => writeFiles(join(root, name), { ...files });

  test('count consistency over all questions, and the other scores over the balanced ones', async () => {
    const folder = own('gqa-all', { 'testdev_all_questions.json': questions, 'testdev_choices.json': choices });
    const { scores, counts, notes } = await score('gqa', folder, { '01': 'Yes.', '02': 'no', '03': 'no', '04': 'Shape' });
    expect(scores).toMatchObject({ consistency: 75, validity: 100, plausibility: 100 });
    expect(scores).toMatchObject({ '4 words': 100, '6 words': 0 });
    expect(scores['accuracy']).toBeCloseTo(200 / 3);
    expect(scores).not.toHaveProperty('open');
    expect([counts, notes]).toEqual([{ distribution: 0.01 }, undefined]);
    const wrong = await score('gqa', folder, { '01': 'blue', '02': 'yes', '03': 'yes', '04': 'pink' });
    expect(wrong.scores).toMatchObject({ accuracy: 0, plausibility: 0 });
    expect(wrong.scores['validity']).toBeCloseTo(100 / 3);
  });

  test('say what is missing without the files for them', async () => {
    const { '01': first, '03': third } = questions;
    const folder = own('gqa-balanced', { 'testdev_balanced_questions.json': { '01': first, '03': third } });
    const { scores, notes } = await score('gqa', folder, { '01': 'yes', '03': 'yes' });
    expect(scores).toEqual({ accuracy: 50 });
    expect(notes).toMatchInlineSnapshot(`
      [
        "no consistency: questions that follow from those asked (1) were not asked; testdev_all_questions.json holds them",
        "no validity and plausibility: they need testdev_choices.json, or val_choices.json for val",
        "no distribution: the files have no groups of questions",
      ]
    `);
  });

  test('refuse the choices of another split', async () => {
    const folder = own('gqa-split', { 'val_balanced_questions.json': questions, 'val_choices.json': { '01': choices['01'] } });
    await expect(samplesOf(gqa, folder)).rejects.toThrow('val_choices.json: no choices for question 02');
  });
});

describe('ScienceQA', () => {
  const item = (id: string, value: string, answer: string, image?: string) => ({
    id,
    ...(image && { image }),
    conversations: [
      { from: 'human', value },
      { from: 'gpt', value: answer },
    ],
  });
  const folder = writeFiles(join(root, 'scienceqa'), {
    'llava_test_CQM-A.json': [
      item('4', 'Context: A text.\nWhich?\nA. one\nB. two', 'B'),
      item('5', '<image>\nWhich?\nA. one\nB. two\nC. three', 'C', '5/image.png'),
      item('6', '<image>\nWhich?\nA. one\nB. two', 'A', '6/image.png'),
    ],
  });

  test('asks with the image before the question, and reports questions with an image first', async () => {
    const samples = await samplesOf(scienceQa, folder);
    expect(samples[1] && asked(scienceQa, samples[1])).toEqual({
      text: "Which?\nA. one\nB. two\nC. three\nAnswer with the option's letter from the given choices directly.",
      images: [join(folder, 'images/test/5/image.png')],
    });
    const { scores, unparsed } = await score('scienceqa', folder, { 4: 'The answer is B.', 5: 'C. three', 6: 'D' });
    expect(scores).toEqual({ 'image accuracy': 50, accuracy: (2 / 3) * 100, 'image context': 50, 'text context': 100 });
    expect(unparsed).toBe(1);
  });

  test('is broken down as by its own evaluation: a question with a text and an image is in both groups', async () => {
    const problem = { subject: 'natural science', grade: 'grade3', topic: 'biology', choices: ['one', 'two'] };
    const own = writeFiles(join(root, 'scienceqa-whole'), {
      'llava_test_CQM-A.json': [
        item('1', '<image>\nContext: A text.\nWhich?\nA. one\nB. two', 'A', '1/image.png'),
        item('2', '<image>\nWhich?\nA. one\nB. two', 'A', '2/image.png'),
        item('3', 'Which?\nA. one\nB. two', 'A'),
      ],
      'problems.json': { 1: problem, 2: { ...problem, topic: 'physics', grade: 'grade8' }, 3: problem },
    });
    const { metrics } = await score('scienceqa', own, { 1: 'A', 2: 'B', 3: 'A' });
    expect(metrics.map(({ name, value, count }) => `${name}: ${value.toFixed(1)} of ${count}`)).toEqual([
      ...[
        'image accuracy: 50.0 of 2',
        'accuracy: 66.7 of 3',
        'text context: 100.0 of 1',
        'image context: 50.0 of 2',
        'no context: 100.0 of 1',
      ],
      ...['grade 1-6: 100.0 of 2', 'grade 7-12: 0.0 of 1', 'biology: 100.0 of 2', 'physics: 0.0 of 1'],
    ]);
  });

  test.each([
    ['(B)', 0, 0],
    ['b', 0, 1],
    ['B', 1, 1],
    ['B. two', 1, 1],
    ['B.', 0, 1],
    ['The answer is B.', 1, 0],
    ['The answer is B, I think', 1, 0],
    ['The answer is B', 0, 0],
    ['The answer is B. The answer is A.', 0, 0],
  ])('scores %j with %d, and by lmms-eval with %d', (answer, official, lmms) => {
    const sample = { id: '4', question: '', images: [], targets: ['B'], category: 'text', options: 2, hinted: false };
    expect([scienceQa.score(sample, answer).score, inProfile(scienceQa, 'lmms-eval').score(sample, answer).score]).toEqual([
      official,
      lmms,
    ]);
  });
});

describe('answer files', () => {
  const folder = join(root, 'scienceqa');
  const inputs = ['Context: A text.\nWhich?\nA. one\nB. two', 'Which?\nA. one\nB. two\nC. three', 'Which?\nA. one\nB. two'];
  test.each<[string, readonly object[]]>([
    [
      "lmms-eval's samples, which have what was said once",
      [2, 0, 1].map((doc_id) => ({ doc_id, target: 'x', filtered_resps: 'BCA'[doc_id], doc_hash: '0', input: inputs[doc_id] })),
    ],
    [
      "lmms-eval's samples, whose filters have changed what was said",
      [
        { doc_id: 0, resps: ['B'], filtered_resps: 'b', input: inputs[0] },
        { doc_id: 1, resps: [['C', 'A']], filtered_resps: ['c'] },
        { doc_id: 2, resps: ' A\n', filtered_resps: 'A' },
      ],
    ],
    ['rows without ids, in order', [{ answer: 'B' }, { answer: 'C' }, { answer: 'A' }]],
    [
      'an upload',
      [
        { questionId: '5', prediction: 'C' },
        { questionId: '4', prediction: 'B' },
        { questionId: '6', prediction: 'A' },
      ],
    ],
    [
      'samples of this package',
      [
        { doc_id: 0, doc: { id: '4' }, resps: ['B'] },
        { doc_id: 1, doc: { id: '5' }, resps: ['C'] },
        { doc_id: 2, doc: { id: '6' }, resps: ['A'] },
      ],
    ],
  ])('may be %s', async (_, rows) => {
    const answers = join(root, 'some.jsonl');
    writeFileSync(answers, rows.map((row) => JSON.stringify(row)).join('\n'));
    expect(await scoreAnswers('scienceqa', { answers, data: folder })).toMatchObject({ missing: 0, scores: { accuracy: 100 } });
  });

  test("may be VLMEvalKit's table", async () => {
    const answers = join(root, 'some.tsv');
    writeFileSync(answers, 'index\tquestion\tanswer\tprediction\n4\tq\tA\tB\n5\tq\tA\tC\n6\tq\tB\tA\n');
    expect(await scoreAnswers('scienceqa', { answers, data: folder })).toMatchObject({ missing: 0, scores: { accuracy: 100 } });
  });
});

describe('answers that do not fit the questions', () => {
  const folder = join(root, 'scienceqa');
  const complaint = async (rows: readonly object[]): Promise<unknown> => {
    const answers = join(root, 'wrong.jsonl');
    writeFileSync(answers, rows.map((row) => JSON.stringify(row)).join('\n'));
    return scoreAnswers('scienceqa', { answers, data: folder }).catch((error: unknown) => error);
  };

  test('are named by file and line', async () => {
    expect(
      await complaint([
        { question_id: '4', text: 'B' },
        { question_id: '9', text: 'B' },
      ]),
    ).toMatchObject({
      message: expect.stringContaining('wrong.jsonl:2: no question 9'),
      hint: expect.stringContaining('ids look like 4'),
    });
    expect(
      await complaint([
        { question_id: '4', text: 'B' },
        { question_id: '4', text: 'B' },
      ]),
    ).toMatchObject({ message: expect.stringContaining('wrong.jsonl:2: a second answer to 4') });
    expect(await complaint([{ question_id: '4', said: 'B' }])).toMatchObject({
      message: expect.stringContaining('wrong.jsonl:1: no answer in it'),
    });
    expect(
      await complaint([
        { doc_id: 1, filtered_resps: 'C', input: 'WHICH?\nA. one\nB. two\nC. three' },
        { doc_id: 0, filtered_resps: 'C', input: 'Which?\nA. one\nB. two\nC. three' },
      ]),
    ).toMatchObject({
      message: expect.stringContaining('wrong.jsonl:2: something else was asked than question number 0 of the files here'),
      hint: expect.stringContaining('the very files that were asked'),
    });
  });
});
