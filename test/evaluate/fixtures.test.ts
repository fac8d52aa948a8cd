import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { scoreAnswers } from '../../src/evaluate/score-answers.ts';
import type { Profile } from '../../src/evaluate/task.ts';

const data = join(import.meta.dirname, '../../../shared/fixtures/benchmarks');
const there = existsSync(data);

/** Published answers of LLaVA-1.5-13B, whose scores are known. */
describe.skipIf(!there)(there ? 'published answers' : 'published answers, which lie beside the project', () => {
  const score = (task: string, answers: string, profile: Profile = 'official') =>
    scoreAnswers(task, { answers: join(data, answers), data, profile });

  test('of POPE get the F1 of each split, the counts behind it, and the mean', async () => {
    const { scores, counts, missing, questions } = await score('pope', 'pope/answers.jsonl');
    expect(scores['mean F1']).toBeCloseTo(85.947, 3);
    expect(scores).toMatchObject({
      'adversarial accuracy': 0.855,
      'adversarial precision': 0.9099307159353349,
      'adversarial recall': 0.788,
      'adversarial F1': 0.8445873526259379,
      'adversarial yes ratio': 0.433,
      'popular accuracy': 0.8743333333333333,
      'popular F1': 0.8624589565851879,
      'random accuracy': 0.8800687285223368,
      'random F1': 0.8713601179506082,
    });
    expect(counts).toEqual({
      ...{ 'adversarial TP': 1182, 'adversarial FP': 117, 'adversarial TN': 1383, 'adversarial FN': 318 },
      ...{ 'popular TP': 1182, 'popular FP': 59, 'popular TN': 1441, 'popular FN': 318 },
      ...{ 'random TP': 1182, 'random FP': 31, 'random TN': 1379, 'random FN': 318 },
    });
    expect({ missing, questions }).toEqual({ missing: 0, questions: 8910 });
  });

  test.each<Profile>(['official', 'lmms-eval'])('of MME get all subtasks by the %s profile', async (profile) => {
    const { scores } = await score('mme', 'mme/answers.jsonl', profile);
    expect(scores).toMatchObject({ perception: 1531.3187274909965, cognition: 295.3571428571429 });
    const subtasks = Object.fromEntries(Object.entries(scores).map(([name, value]) => [name, Number(value.toFixed(3))]));
    expect(subtasks).toMatchObject({
      ...{ existence: 185, count: 155, position: 133.333, color: 170, posters: 160.544, celebrity: 152.941, scene: 161.25 },
      ...{ landmark: 170.5, artwork: 117.75, OCR: 125 },
      ...{ commonsense_reasoning: 127.857, numerical_calculation: 42.5, text_translation: 77.5, code_reasoning: 47.5 },
    });
  });

  test.each<Profile>(['official', 'lmms-eval'])('of ScienceQA get both accuracies by the %s profile', async (profile) => {
    const { scores, metrics } = await score('scienceqa', 'scienceqa/answers.output.json', profile);
    expect(scores).toMatchObject({ accuracy: 74.39283187927376, 'image accuracy': 71.64105106593951 });
    expect(metrics.find(({ name }) => name === 'image accuracy')?.count).toBe(2017);
  });

  test('of VizWiz become what was uploaded, all 8000 of them', async () => {
    const { scores, questions, submission } = await score('vizwiz', 'vizwiz/answers.jsonl');
    expect({ scores, questions }).toEqual({ scores: { 'same as uploaded': 100 }, questions: 8000 });
    expect(submission).toEqual(JSON.parse(readFileSync(join(data, 'vizwiz/answers_upload.json'), 'utf8')));
  });

  test('of MM-Vet get the mean of the 218 grades', async () => {
    const { scores, questions } = await score('mm-vet', 'mm-vet/llava-v1.5-13b_gpt-4-grade-1runs.json');
    expect(scores).toEqual({ total: expect.closeTo(36.14678899082569, 10) });
    expect(questions).toBe(218);
  });

  test.each([
    [1, { all: 72.8, 'all reference': 86.5, 'all answer': 63, complex: 82.8, conv: 74.7, detail: 52.6 }],
    [2, { all: 72.7 }],
    [3, { all: 72.1 }],
  ])('of LLaVA-Bench get what review %d says of them', async (review, expected) => {
    const { scores, questions } = await score('llava-bench', `llava-bench/llava-v1.5-13b-eval${review}.jsonl`);
    expect(scores).toMatchObject(expected);
    expect(questions).toBe(60);
  });
});
