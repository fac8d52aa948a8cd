import { describe, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import { bootstrapped, pairedBootstrap } from '../../src/evaluate/bootstrap.ts';
import { compareRuns } from '../../src/evaluate/compare.ts';
import { wilson } from '../../src/evaluate/interval.ts';
import { detectableDifference } from '../../src/evaluate/power.ts';
import type { Scored } from '../../src/evaluate/task.ts';

const run = (scores: readonly number[], group = (i: number): string => String(i)): Scored[] =>
  scores.map((score, i) => ({
    sample: { id: String(i), question: '', images: [group(i)], targets: ['x'], category: '' },
    parsed: '',
    score,
  }));

const meanOf = (scored: readonly Scored[]) =>
  bootstrapped(scored, {
    sums(group, add) {
      for (const { score } of group) {
        add('n', 1);
        add('right', score);
      }
    },
    values: (sum) => [{ name: 'mean', value: sum('right') / sum('n'), count: sum('n') }],
  })[0];

describe('the bootstrap', () => {
  const scores = Array.from({ length: 400 }, (_, i) => (i % 5 === 0 ? 0 : 1));

  test('gives the interval of a mean that theory gives, the same every time', () => {
    const found = meanOf(run(scores));
    const expected = wilson(320, 400);
    expect(found).toMatchObject({ value: 0.8, count: 400 });
    expect(found?.interval.low).toBeCloseTo(expected.low, 1.9);
    expect(found?.interval.high).toBeCloseTo(expected.high, 1.9);
    expect(meanOf(run(scores))).toEqual(found);
  });

  test('is wider where questions of one image go right or wrong together', () => {
    const together = Array.from({ length: 400 }, (_, i) => (Math.floor(i / 10) % 5 === 0 ? 0 : 1));
    const width = (interval?: { low: number; high: number }): number => (interval ? interval.high - interval.low : 0);
    const grouped = run(together, (i) => String(Math.floor(i / 10)));
    expect(width(meanOf(grouped)?.interval)).toBeGreaterThan(2.5 * width(meanOf(run(together))?.interval));
  });

  test('knows nothing from a single group, and no more than Wilson where all are right or all wrong', () => {
    expect(meanOf(run([1]))?.interval).toEqual({ low: 0, high: 1 });
    const twice = (score: number) => run(new Array(40).fill(score), (i) => String(Math.floor(i / 2)));
    expect([meanOf(twice(1))?.interval, meanOf(twice(0))?.interval]).toEqual([wilson(20, 20), wilson(0, 20)]);
  });
});

describe('two runs', () => {
  const first = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? 0 : 1));
  const second = first.map((score, i) => (i % 30 === 0 ? 1 : score));

  test('are compared question by question', () => {
    const { samples, mean, rightOrWrong, better, worse } = compareRuns(run(first), [...run(second)].reverse());
    expect({ samples, difference: Number(mean.difference.toFixed(6)), better: better.length, worse: worse.length }).toEqual({
      samples: 300,
      difference: 0.033333,
      better: 10,
      worse: 0,
    });
    expect(rightOrWrong).toMatchObject({ onlyFirst: 0, onlySecond: 10, pValue: 0.001953125 });
    expect(mean.pValue).toBeLessThan(0.01);
    expect([mean.interval.low > 0, mean.interval.high < 0.06]).toEqual([true, true]);
  });

  test('that are equal do not differ, and scores between right and wrong have no McNemar test', () => {
    const { high } = wilson(0, 300);
    expect(pairedBootstrap(first, first)).toMatchObject({ difference: 0, interval: { low: -high, high }, pValue: 1 });
    expect(compareRuns(run([0.3, 0.6]), run([0.6, 0.3])).rightOrWrong).toBeUndefined();
  });

  test('that differ on one question, or on one image alone, may do so by chance', () => {
    const nothing = { interval: { low: -1, high: 1 }, pValue: 1 };
    expect(pairedBootstrap([], [])).toEqual({ difference: 0, ...nothing });
    expect(pairedBootstrap([0.25], [0.75])).toEqual({ difference: 0.5, ...nothing });
    const image = (i: number): string => (i < 20 ? 'one' : String(i));
    const [none, some] = [new Array(40).fill(0), Array.from({ length: 40 }, (_, i) => (i < 20 ? 1 : 0))];
    const { mean, rightOrWrong } = compareRuns(run(none, image), run(some, image));
    expect([mean.difference, mean.pValue, rightOrWrong]).toEqual([0.5, 1, undefined]);
    // Questions about images of their own.
    expect(compareRuns(run(none), run(some)).mean.pValue).toBeLessThan(0.001);
  });

  test('that are equally good are told apart in no more than one of twenty pairs, few questions or many, about few images or many', () => {
    const random = new Random(1);
    const won = (): number => random.below(3) / 2;
    for (const [questions, together] of [
      [3, 1],
      [40, 1],
      [120, 12],
    ] as const) {
      let apart = 0;
      for (let pair = 0; pair < 200; pair++) {
        const images = Array.from({ length: questions / together }, won);
        const second = Array.from({ length: questions }, (_, i) => images[Math.floor(i / together)] ?? 0);
        const of = second.map((_, i) => String(Math.floor(i / together)));
        const { pValue } = pairedBootstrap(new Array(questions).fill(0.5), second, { together: of, seed: pair, rounds: 400 });
        if (pValue <= 0.05) apart += 1;
      }
      expect(apart / 200, `${questions} questions, ${together} an image`).toBeLessThan(0.09);
    }
  });

  test('of other samples are refused', () => {
    expect(() => compareRuns(run([1, 0]), run([1]))).toThrow('sample 1 is in the first run only');
    expect(() => compareRuns(run([1]), run([1, 0]))).toThrow('the first run has 1 samples, the second 2');
  });
});

test('a benchmark shows a difference that shrinks with the root of its size, and is smaller for models that agree', () => {
  const scores = (count: number): number[] => Array.from({ length: count }, (_, i) => i % 2);
  // Two shares of one half that are compared unpaired: (1.96 + 0.84) sqrt(2 / 4 / n).
  expect(detectableDifference(scores(1000), { correlation: 0 })).toBeCloseTo(2.8016 * Math.sqrt(0.5 / 1000), 4);
  expect(detectableDifference(scores(1000))).toBeCloseTo(2.8016 * Math.sqrt(0.25 / 1000), 4);
  expect(detectableDifference([1])).toBeUndefined();
});
