import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inProfile, type Profile, type Sample, type Task } from '../../../src/evaluate/task.ts';
import { tasks } from '../../../src/evaluate/tasks/index.ts';
import { asked } from './open-answers.ts';

/** Rows in the form of lmms-eval's data sets; scripts/make-parquet-references.py writes them. */
const data = join(import.meta.dirname, '../../reference/hugging-face');
const root = mkdtempSync(join(tmpdir(), 'tinyllava-hugging-face-'));
const cache = process.env['TINYLLAVA_CACHE'];
beforeAll(() => {
  process.env['TINYLLAVA_CACHE'] = root;
});
afterAll(() => {
  if (cache === undefined) delete process.env['TINYLLAVA_CACHE'];
  else process.env['TINYLLAVA_CACHE'] = cache;
  rmSync(root, { recursive: true });
});

async function opened(name: keyof typeof tasks): Promise<{ task: Task; samples: readonly Sample[] }> {
  const { samples, layout } = await tasks[name].open(data);
  expect(layout).toContain('lmms-eval');
  for (const { images } of samples) for (const image of images) expect([image, existsSync(image)]).toEqual([image, true]);
  return { task: tasks[name], samples };
}

const text = (task: Task, sample: Sample | undefined, profile: Profile = 'official'): string =>
  sample ? asked(inProfile(task, profile), sample).text : '';
const colours = async (images: readonly string[]): Promise<string[]> =>
  Promise.all(
    images.map(async (image) =>
      (await sharp(image).stats()).dominant.b > 128 ? 'blue' : (await sharp(image).stats()).dominant.g > 100 ? 'green' : 'red',
    ),
  );

const letter = "Answer with the option's letter from the given choices directly.";

test('POPE has its splits in files', async () => {
  const { samples } = await opened('pope');
  expect(samples.map(({ id, question, targets, category }) => [id, question, targets, category])).toEqual([
    ['adversarial:1', 'Is there a dog in the image?', ['yes'], 'adversarial'],
    ['adversarial:2', 'Is there a cat in the image?', ['no'], 'adversarial'],
  ]);
});

test('MMMU shows the images that a question names, in the order of their numbers', async () => {
  const { task, samples } = await opened('mmmu');
  const [choice, open] = samples;
  expect(await colours(choice?.images ?? [])).toEqual(['red', 'green']);
  expect(text(task, choice)).toBe(`What is in <image 2> and <image 1>?\n\n(A) $6\n(B) that's it\n\n\n${letter}`);
  expect(text(task, choice, 'lmms-eval')).toBe(`What is in <image 2> and <image 1>?\nA. $6\nB. that's it\n\n${letter}`);
  expect([open?.targets, open?.category, text(task, open)]).toEqual([
    ['24/7', '3.429'],
    'Art',
    'How much?\n\nAnswer the question using a single word or phrase.',
  ]);
  expect([task.score(open as Sample, 'It is 3.43').score, inProfile(task, 'lmms-eval').score(open as Sample, 'It is 3.43').score]).toEqual([
    1, 0,
  ]);
});

test('GQA joins questions and images', async () => {
  const { samples } = await opened('gqa');
  expect(samples.map(({ id, targets, category }) => [id, targets, category])).toEqual([['q1', ['yes'], 'binary']]);
  expect(await colours(samples[0]?.images ?? [])).toEqual(['blue']);
});

test('RefCOCO has a question for each expression, and boxes as shares of the image', async () => {
  const { task, samples } = await opened('refcoco');
  expect(samples.map(({ id, question, targets }) => [id, question, targets])).toEqual([
    ['val-5-0', 'the cat', ['[0.250, 0.000, 0.750, 1.000]']],
    ['val-5-1', 'left one', ['[0.250, 0.000, 0.750, 1.000]']],
  ]);
  expect(
    ['[0.25, 0, 0.75, 1]', '[0.25, 0, 0.5, 1]', '[0.25, 0, 0.49, 1]'].map((answer) => task.score(samples[0] as Sample, answer).score),
  ).toEqual([1, 1, 0]);
});

test('SEED-Bench may have several images a question', async () => {
  const { samples } = await opened('seed-bench');
  expect(await colours(samples[0]?.images ?? [])).toEqual(['red', 'blue']);
  expect([samples[0]?.category, samples[0]?.question]).toEqual(['video', 'What?\nA. a\nB. b\nC. c\nD. d']);
});

test('MMBench ends its options at the first that is missing', async () => {
  const { task, samples } = await opened('mmbench-en');
  expect(text(task, samples[0])).toBe(`Which?\nA. one\nB. two\n${letter}`);
  expect(text(task, samples[0], 'lmms-eval')).toBe(`Which? There are several options:\nA. one\nB. two\n\n${letter}`);
});

test('TextVQA has the words of an OCR system beside the question', async () => {
  const { task, samples } = await opened('textvqa-ocr');
  const suffix = '\nAnswer the question using a single word or phrase.';
  expect(text(task, samples[0])).toBe(`what IS it?\nReference OCR token: STOP, 4${suffix}`);
  expect(text(tasks.textvqa, samples[0], 'lmms-eval')).toBe(`What is it?${suffix}`);
});

test('DocVQA has no truth in its test split', async () => {
  const { samples } = await opened('docvqa');
  expect(samples.map(({ id, question, targets }) => [id, question, targets])).toEqual([['57344', 'Who?', []]]);
});
