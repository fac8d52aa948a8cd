import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { TaskResult } from '../../src/evaluate/evaluate.ts';
import { drawSamples, embedImages, reportSample, reportScores } from '../../src/evaluate/html/from-results.ts';
import type { Scored } from '../../src/evaluate/task.ts';

const folder = await mkdtemp(join(tmpdir(), 'html-results-'));
afterAll(() => rm(folder, { recursive: true }));

const metric = (name: string, value: number): TaskResult['metrics'][number] => ({
  name,
  value,
  interval: { low: value / 2, high: 1 },
  count: 10,
});
const result: TaskResult = {
  metrics: [metric('all', 0.8), metric('colour', 0.9), metric('shape', 0.7)],
  baselines: { majority: [metric('all', 0.3), metric('shape', 0.4)] },
  samples: 10,
  failures: 0,
  seconds: 1,
  maxNewTokens: 8,
  dataSha256: '',
};

test('scores come in the order asked for, with the baselines and goals that there are', () => {
  expect(reportScores(result, { order: ['all', 'shape'], goals: { shape: 0.97 } })).toEqual([
    { name: 'all', count: 10, correct: 8, accuracy: { value: 0.8, low: 0.4, high: 1 }, baselines: { majority: 0.3 } },
    { name: 'shape', count: 10, correct: 7, accuracy: { value: 0.7, low: 0.35, high: 1 }, baselines: { majority: 0.4 }, goal: 0.97 },
    { name: 'colour', count: 10, correct: 9, accuracy: { value: 0.9, low: 0.45, high: 1 }, baselines: {} },
  ]);
});

function scored(image: number, score: number): Scored {
  const sample = { id: String(image), question: 'what is it?', images: [`images/${image}.png`], targets: ['circle'], category: 'shape' };
  return { sample, answer: score === 1 ? 'circle' : 'square', parsed: '', score };
}

test('a sample that could not be asked says so where its answer would be', () => {
  const { answer: _, ...unasked } = scored(3, 0);
  expect(reportSample({ ...unasked, error: 'no such file' })).toEqual({
    image: 'images/3.png',
    question: 'what is it?',
    answer: '(not asked: no such file)',
    truth: 'circle',
    type: 'shape',
    correct: false,
  });
});

test('the gallery takes images by the seed, then those with a wrong answer, each with all its questions', () => {
  const all = Array.from({ length: 40 }, (_, image) => [scored(image, 1), scored(image, image % 10 === 0 ? 0 : 1)]).flat();
  const some = drawSamples(all, { seed: 1, drawn: 4, wrong: 2 });
  expect(some.drawn).toMatch(/^4 drawn at random, then 2 of the [34] others with a wrong answer$/);
  expect(some.imagesInAll).toBe(40);
  expect(some.files).toHaveLength(6);
  expect(some.samples).toHaveLength(12);
  expect(drawSamples(all, { seed: 1, drawn: 4, wrong: 2 })).toEqual(some);
  expect(drawSamples(all, { seed: 2, drawn: 4, wrong: 2 }).files).not.toEqual(some.files);
  const whole = drawSamples(all, { seed: 1, drawn: 100, wrong: 2 });
  expect([whole.files.length, whole.drawn]).toEqual([40, '40 drawn at random']);
});

test('images become data URIs, and a file that browsers do not show is refused by name', async () => {
  const file = join(folder, 'a.png');
  await writeFile(file, Uint8Array.of(1, 2, 3));
  expect(await embedImages([file, file])).toEqual({ [file]: 'data:image/png;base64,AQID' });
  await expect(embedImages(['b.tiff'])).rejects.toThrow('b.tiff cannot be put into a page');
});
