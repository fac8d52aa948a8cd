import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { captions, instructions, pictureFacts, readQuestions } from '../../src/cli/quickstart/easy-vqa.ts';

const folder = await mkdtemp(join(tmpdir(), 'quickstart-data-'));
afterAll(() => rm(folder, { recursive: true }));

test('shape and colour of a picture follow from open questions, from what they presuppose and from yes/no answers of either polarity', () => {
  const facts = pictureFacts([
    { question: 'what is the blue shape?', answer: 'rectangle', image: 0 },
    { question: 'is there a triangle?', answer: 'no', image: 0 },
    { question: 'does the image not contain a gray shape?', answer: 'yes', image: 0 },
    { question: 'is no circle present?', answer: 'no', image: 1 },
    { question: 'is there a red shape?', answer: 'yes', image: 1 },
    { question: 'is there not a green shape in the image?', answer: 'yes', image: 2 },
    { question: 'what color is the triangle?', answer: 'teal', image: 3 },
  ]);
  expect(Object.fromEntries(facts)).toEqual({
    0: { shape: 'rectangle', colour: 'blue' },
    1: { shape: 'circle', colour: 'red' },
    2: {},
    3: { shape: 'triangle', colour: 'teal' },
  });
});

test('only pictures of which both facts are known get a caption', () => {
  const rows = captions([
    { question: 'what is the blue shape?', answer: 'rectangle', image: 4 },
    { question: 'what color is the shape?', answer: 'red', image: 5 },
  ]);
  expect(rows).toEqual([
    {
      id: 'caption-4',
      image: 'train/images/4.png',
      conversations: [
        { from: 'human', value: '<image>' },
        { from: 'gpt', value: 'a blue rectangle' },
      ],
    },
  ]);
});

test('every question becomes a conversation of one turn', () => {
  expect(instructions([{ question: 'is there a circle?', answer: 'no', image: 7 }])).toEqual([
    {
      id: 'question-0',
      image: 'train/images/7.png',
      conversations: [
        { from: 'human', value: '<image>\nis there a circle?' },
        { from: 'gpt', value: 'no' },
      ],
    },
  ]);
});

test('a folder without the questions, and one with other JSON, are told apart', async () => {
  const missing = readQuestions(join(folder, 'nowhere'), 'train');
  await expect(missing).rejects.toThrow(`${join(folder, 'nowhere/train/questions.json')}: no such file`);
  await mkdir(join(folder, 'train'));
  await writeFile(join(folder, 'train/questions.json'), '{"questions": []}');
  await expect(readQuestions(folder, 'train')).rejects.toMatchObject({
    message: `${join(folder, 'train/questions.json')} does not hold the questions of easy-VQA: expected [[question, answer, image], …]`,
    hint: 'fetch easy-VQA with `node scripts/fetch-data.mjs` or name its folder with --data',
  });
});
