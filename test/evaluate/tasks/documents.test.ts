import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { scoreAnswers } from '../../../src/evaluate/score-answers.ts';
import { submissionContent } from '../../../src/evaluate/submission.ts';
import { inProfile } from '../../../src/evaluate/task.ts';
import { ai2d } from '../../../src/evaluate/tasks/ai2d.ts';
import { cocoCaption } from '../../../src/evaluate/tasks/captions.ts';
import { chartQa, relaxedMatch } from '../../../src/evaluate/tasks/chart-qa.ts';
import { anls, docVqa } from '../../../src/evaluate/tasks/doc-vqa.ts';
import { ocrBench } from '../../../src/evaluate/tasks/ocr-bench.ts';
import { boxIn, overlap, refCoco } from '../../../src/evaluate/tasks/ref-coco.ts';
import { seedBench, seedBenchLikelihood } from '../../../src/evaluate/tasks/seed-bench.ts';
import { asked, samplesOf, score, writeFiles } from './open-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-documents-'));
afterAll(() => rmSync(root, { recursive: true }));

describe('ChartQA', () => {
  test.each([
    ['0.05', '5%', true],
    ['5', '5%', false],
    ['0.0', '0', false],
    ['1,000', '1000', false],
    ['105', '100', true],
    ['106', '100', false],
    ['asia', 'Asia', true],
    ['Asia.', 'Asia', false],
  ])('%j is right for %j: %s', (answer, truth, right) => expect(relaxedMatch(answer, truth)).toBe(right));

  test('is read in its two halves', async () => {
    const folder = writeFiles(join(root, 'chartqa'), {
      'test_human.json': [{ imgname: '1.png', query: 'How many?', label: '10' }],
      'test_augmented.json': [{ imgname: '2.png', query: 'Which?', label: 'Asia' }],
    });
    const [first] = await samplesOf(chartQa, folder);
    expect(first && asked(inProfile(chartQa, 'lmms-eval'), first)).toEqual({
      text: 'How many?\nAnswer the question with a single word.',
      images: [join(folder, 'png/1.png')],
    });
    expect((await score('chartqa', folder, { 'human-0': '10.4', 'augmented-0': 'Europe' })).scores).toEqual({
      'relaxed accuracy': 50,
      augmented: 0,
      human: 100,
    });
  });
});

describe('DocVQA', () => {
  test.each([
    ['abxy', ['abcd'], 0.5],
    ['abxyz', ['abcd'], 0],
    ['  ABCD ', ['abcd'], 1],
    ['', [''], 1],
    ['The  Times', ['times', 'the times'], 1 - 0 / 10],
    ['straße', ['strasse'], 1 - 2 / 7],
  ])('%j against %j is worth %d', (answer, truths, value) => expect(anls(answer, truths)).toBeCloseTo(value, 9));

  test('is read as the competition gives it', async () => {
    const folder = writeFiles(join(root, 'docvqa'), {
      'val_v1.0_withQT.json': { data: [{ questionId: 5, question: 'Who?', image: 'documents/x_1.png', answers: ['Ann', 'ann b'] }] },
    });
    const [first] = await samplesOf(docVqa, folder);
    expect(first?.images).toEqual([join(folder, 'documents/x_1.png')]);
    expect((await score('docvqa', folder, { 5: 'Anna' })).scores).toEqual({ ANLS: 75 });
  });

  test("of test has no scores, and gives what the competition's server takes", async () => {
    const folder = writeFiles(join(root, 'docvqa-test'), {
      'test_v1.0.json': { data: [{ questionId: 7, question: 'Who?', image: 'documents/x_1.png' }] },
    });
    const { unscored, submission } = await score('docvqa', folder, { 7: 'Ann' });
    expect([unscored, submission]).toEqual([expect.stringContaining('not public'), [{ questionId: 7, answer: 'Ann' }]]);
  });

  test('of test is read where nothing of val is there, with its own images', async () => {
    const folder = writeFiles(join(root, 'docvqa-both'), {
      'test/test_v1.0.json': { data: [{ questionId: 7, question: 'Who?', image: 'documents/x_1.png' }] },
      'val/documents/x_1.png': '',
    });
    await expect(docVqa.open(folder)).rejects.toThrow('is missing');
    writeFiles(folder, { 'test/documents/x_1.png': '' });
    expect((await docVqa.open(folder)).samples[0]?.images).toEqual([join(folder, 'test/documents/x_1.png')]);
    writeFiles(folder, { 'DocVQA_VAL.tsv': 'index\tquestion\tanswer\timage\n3\tWhat?\ta cat\tAAAA\n' });
    expect(await samplesOf(docVqa, folder)).toMatchObject([{ id: '3', question: 'What?', targets: ['a cat'] }]);
  });
});

test('OCRBench looks for the answer in what is said, formulas without spaces and by case, and counts points', async () => {
  const folder = writeFiles(join(root, 'ocrbench'), {
    'OCRBench.json': [
      {
        dataset_name: 'IIIT5K',
        id: 1,
        image_path: 'a.jpg',
        question: 'what is written?',
        answers: ['STOP'],
        type: 'Regular Text Recognition',
      },
      {
        dataset_name: 'HME100k',
        id: 2,
        image_path: 'b.jpg',
        question: 'formula?',
        answers: 'x ^ { 2 }',
        type: 'Handwritten Mathematical Expression Recognition',
      },
      { dataset_name: 'DocVQA', id: 3, image_path: 'c.jpg', question: 'who?', answers: ['Ａnn'], type: 'Doc-oriented VQA' },
    ],
  });
  const said = { 0: 'It says "stop".', 1: 'X^{2}', 2: 'ann' };
  expect((await score('ocrbench', folder, said)).scores).toEqual({
    'final score': 1,
    'text recognition': 1,
    'Regular Text Recognition': 1,
    'Doc-oriented VQA': 0,
    'Handwritten Mathematical Expression Recognition': 0,
  });
  expect((await score('ocrbench', folder, { ...said, 1: 'so x^{2}' }, 'lmms-eval')).scores['final score']).toBe(3);
  expect((await samplesOf(ocrBench, folder))[0]?.images).toEqual([join(folder, 'OCRBench_Images/a.jpg')]);
});

test('29 points of 50 are 29', () => {
  const sample = { id: '', question: '', images: [], targets: [], category: 'Handwriting Recognition', source: '' };
  const scored = Array.from({ length: 50 }, (_, i) => ({ sample, parsed: '', score: i < 29 ? 1 : 0 }));
  expect(ocrBench.aggregate(scored).map(({ name, value, max }) => [name, value, max])).toEqual(
    ['final score', 'text recognition', 'Handwriting Recognition'].map((name) => [name, 29, 50]),
  );
});

describe('RefCOCO', () => {
  test('reads the first four numbers in brackets', () => {
    expect([boxIn('so [0.1, 0.2,0.3, 1] or [0,0,1,1]'), boxIn('[0.1, 0.2, 0.3]'), boxIn('[.1, 0, 1, 1]')]).toEqual([
      [0.1, 0.2, 0.3, 1],
      undefined,
      undefined,
    ]);
  });

  test('compares areas, and has no trouble with empty boxes', () => {
    expect(overlap([0, 0, 1, 1], [0, 0, 0.5, 1])).toBe(0.5);
    expect(overlap([0, 0, 0, 0], [0, 0, 0, 0])).toBe(0);
    const sample = { id: '1', question: 'the cat', images: ['a.png'], targets: [], category: 'val', box: [0, 0, 1, 1] as const };
    const scored = ['[0, 0, 0.5, 1]', '[0, 0, 0.4, 1]', 'left'].map((answer, i) => ({
      sample: { ...sample, id: String(i) },
      answer,
      ...refCoco.score(sample, answer),
    }));
    expect(scored.map((one) => [one.score, one.unparsed])).toEqual([
      [1, undefined],
      [0, undefined],
      [0, true],
    ]);
    const metrics = Object.fromEntries(refCoco.aggregate(scored).map(({ name, value }) => [name, Number(value.toFixed(6))]));
    expect(metrics).toMatchObject({
      'accuracy at 0.5': 33.333333,
      'mean IoU': 30,
      'accuracy at 0.3': 66.666667,
      'accuracy at 0.7': 0,
      'centre within': 100,
    });
    expect(asked(inProfile(refCoco, 'lmms-eval'), sample).text).toMatch(/^Bounding box coordinates are .* describes: the cat$/);
  });
});

describe('SEED-Bench', () => {
  const folder = writeFiles(join(root, 'seed_bench'), {
    'SEED-Bench.json': {
      question_type: { 'Scene Understanding': 1, 'Action Recognition': 10 },
      questions: ['a', 'v1'].map((question_id, i) => ({
        ...{ question_id, question: 'Which?', choice_a: 'p', choice_b: 'q', choice_c: 'r', choice_d: 's', answer: 'B' },
        ...{ data_type: i === 0 ? 'image' : 'video', data_id: 'x', question_type_id: i === 0 ? 1 : 10 },
      })),
    },
  });

  test('wants the bare letter, and lmms-eval the first one', async () => {
    expect((await score('seed-bench', folder, { a: 'B', v1: 'B.' })).scores).toEqual({
      accuracy: 50,
      image: 100,
      video: 0,
      'Action Recognition': 0,
      'Scene Understanding': 100,
    });
    expect((await score('seed-bench', folder, { a: 'b', v1: 'Both' }, 'lmms-eval')).scores['accuracy']).toBe(100);
  });

  test("gives lines for the benchmark's table of results", async () => {
    const { submission } = await score('seed-bench', folder, { a: 'B', v1: 'C' });
    expect(await submissionContent(submission, seedBench.submissionForm)).toBe(
      '{"question_id":"a","prediction":"B"}\n{"question_id":"v1","prediction":"C"}\n',
    );
  });

  test('has choices where it is asked by likelihood', async () => {
    const [first] = await seedBenchLikelihood.open(folder, { images: false }).then(({ samples }) => samples);
    expect(first && [asked(seedBenchLikelihood, first).text, seedBenchLikelihood.choices?.(first)]).toEqual([
      'Which? Answer :',
      ['p', 'q', 'r', 's'],
    ]);
    expect(first && asked(seedBench, first)).toEqual({
      text: "Which?\nA. p\nB. q\nC. r\nD. s\nAnswer with the option's letter from the given choices directly.",
      images: [join(folder, 'SEED-Bench-image/x')],
    });
  });
});

test('AI2D refuses a table of questions without options', async () => {
  const folder = writeFiles(join(root, 'no-options'), { 'AI2D_TEST.tsv': 'index\tquestion\tanswer\n7\tHow?\tA\n' });
  await expect(ai2d.open(folder)).rejects.toThrow('AI2D_TEST.tsv: question 7 has no options');
});

test('AI2D takes a letter with a full stop, by lmms-eval a whole answer too', () => {
  const sample = { id: '1', question: '', images: [], targets: ['B'], category: 'all', options: { A: 'leaf', B: 'root' } };
  expect(
    ['B', 'B. root', '(b)', 'root'].map((answer) => [
      ai2d.score(sample, answer).score,
      inProfile(ai2d, 'lmms-eval').score(sample, answer).score,
    ]),
  ).toEqual([
    [1, 1],
    [1, 1],
    [0, 1],
    [1, 0],
  ]);
});

test('captions of COCO are read as published and scored together', async () => {
  const folder = writeFiles(join(root, 'coco'), {
    'annotations/captions_val2017.json': {
      images: [1, 2].map((id) => ({ id, file_name: `${id}.jpg` })),
      annotations: [
        { image_id: 1, caption: 'A cat sits on a mat.' },
        { image_id: 2, caption: 'Two dogs run over a field.' },
        { image_id: 1, caption: 'a cat on a mat' },
      ],
    },
  });
  expect((await samplesOf(cocoCaption, folder))[0]).toMatchObject({
    id: '1',
    images: [join(folder, 'val2017/1.jpg')],
    targets: ['A cat sits on a mat.', 'a cat on a mat'],
  });
  const { scores } = await score('coco-caption', folder, { 1: 'a cat on a mat', 2: 'a red bus' });
  expect(scores['ROUGE-L']).toBeGreaterThan(50);
  expect(Object.keys(scores)).toEqual(['CIDEr', 'ROUGE-L', 'BLEU-1', 'BLEU-2', 'BLEU-3', 'BLEU-4']);
  // COCO's own files of results, and so the submission, name images; their order means nothing.
  const answers = join(folder, 'results.json');
  writeFiles(folder, {
    'results.json': [
      { image_id: 2, caption: 'a red bus' },
      { image_id: 1, caption: 'a cat on a mat' },
    ],
  });
  expect((await scoreAnswers('coco-caption', { answers, data: folder })).scores).toEqual(scores);
});

test('captions of NoCaps have the CIDEr of each domain, by how rare its phrases are in the domain', async () => {
  const captions = ['A cat sits on a mat.', 'Two dogs run over a field.', 'A red bus in the street.', 'A harp on a stage.'];
  const file = (domains: readonly string[], ids = [0, 1, 2, 3]) => ({
    images: ids.map((id) => ({ id, file_name: `${id}.jpg`, domain: domains[id] })),
    annotations: ids.map((id) => ({ image_id: id, caption: captions[id] })),
  });
  const name = 'nocaps_val_4500_captions.json';
  const domains = ['in-domain', 'in-domain', 'out-domain', 'out-domain'];
  const said = { 0: 'a cat on a mat', 1: 'two dogs in a field' };
  const whole = await score('nocaps', writeFiles(join(root, 'nocaps'), { [name]: file(domains) }), { ...said, 2: 'a bus', 3: 'a stage' });
  const alone = await score('nocaps', writeFiles(join(root, 'nocaps-in'), { [name]: file(domains, [0, 1]) }), said);
  expect(whole.scores['in-domain CIDEr']).toBe(alone.scores['CIDEr']);
  expect(whole.scores['in-domain CIDEr']).toBeGreaterThan(whole.scores['out-domain CIDEr'] ?? Number.NaN);
  expect(Object.keys(alone.scores)).not.toContain('in-domain CIDEr');
});

test('samples of lmms-eval over captions in another order are refused, by what people said', async () => {
  const folder = join(root, 'coco');
  const samples = (targets: readonly string[]) =>
    targets.map((target, doc_id) => ({
      doc_id,
      target,
      filtered_resps: 'a cat',
      input: 'Provide a one-sentence caption for the provided image.',
    }));
  const said = ["['A cat sits on a mat.', 'a cat on a mat']", "['Two dogs run over a field.']"];
  const answers = join(writeFiles(folder, { 'same.jsonl': samples(said), 'other.jsonl': samples(said.toReversed()) }), 'same.jsonl');
  expect((await scoreAnswers('coco-caption', { answers, data: folder })).missing).toBe(0);
  await expect(scoreAnswers('coco-caption', { answers: join(folder, 'other.jsonl'), data: folder })).rejects.toThrow(
    /other.jsonl:1: something else was asked than question number 0/,
  );
});

test('BLEU has an interval by leaving out a twentieth of the captions', () => {
  const scored = Array.from({ length: 60 }, (_, i) => ({
    sample: { id: String(i), question: '', images: [], targets: [`a cat sits on mat number ${i}`], category: 'all' },
    answer: i % 3 === 0 ? 'a red bus in the street of a town' : `a cat sits on the mat ${i}`,
    parsed: '',
    score: 0,
  }));
  const found = cocoCaption.aggregate(scored).find(({ name }) => name === 'BLEU-1');
  expect(found?.value).toBeGreaterThan(40);
  const { low = 0, high = 0 } = found?.interval ?? {};
  expect([low < (found?.value ?? 0), high > (found?.value ?? 0), high - low > 2, high - low < 40]).toEqual([true, true, true, true]);
});
