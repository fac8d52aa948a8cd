import { expect, test } from 'vitest';
import { learningRateFactor, type Schedule } from '../../src/train/schedule.ts';

// Eight steps of transformers' get_…_schedule_with_warmup.
test.each([
  [{ shape: 'cosine', warmupSteps: 2, finalRatio: 0 }, [0, 0.5, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]],
  [{ shape: 'cosine', warmupSteps: 2, finalRatio: 0.1 }, [0, 0.5, 1, 0.9397114, 0.775, 0.55, 0.325, 0.1602886]],
  [{ shape: 'linear', warmupSteps: 2, finalRatio: 0 }, [0, 0.5, 1, 0.8333333, 0.6666667, 0.5, 0.3333333, 0.1666667]],
  [{ shape: 'constant', warmupSteps: 2, finalRatio: 0 }, [0, 0.5, 1, 1, 1, 1, 1, 1]],
] satisfies [Omit<Schedule, 'steps'>, number[]][])('%o gives the factors of transformers', (schedule, expected) => {
  for (const [step, factor] of expected.entries()) expect(learningRateFactor(step, { ...schedule, steps: 8 })).toBeCloseTo(factor, 6);
});

test('without a warm-up the first step has the whole learning rate, and past the end the last', () => {
  const schedule = { shape: 'linear', warmupSteps: 0, steps: 4, finalRatio: 0.25 } as const;
  expect([0, 2, 4, 9].map((step) => learningRateFactor(step, schedule))).toEqual([1, 0.625, 0.25, 0.25]);
});

test('a warm-up of all steps never falls', () => {
  const schedule = { shape: 'cosine', warmupSteps: 3, steps: 3, finalRatio: 0 } as const;
  expect([0, 1, 2].map((step) => learningRateFactor(step, schedule))).toEqual([0, 1 / 3, 2 / 3]);
});
