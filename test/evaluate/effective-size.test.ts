import { describe, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import { effectiveSize } from '../../src/evaluate/effective-size.ts';
import { wilson } from '../../src/evaluate/interval.ts';
import { detectableDifference } from '../../src/evaluate/power.ts';
import { mean } from '../../src/evaluate/score.ts';
import type { Scored } from '../../src/evaluate/task.ts';

const scoredOn = (scores: readonly number[], images: readonly string[]): Scored[] =>
  scores.map((score, i) => ({
    sample: { id: String(i), question: '', images: [images[i] ?? ''], targets: ['x'], category: '' },
    parsed: '',
    score,
  }));

describe('questions about shared images', () => {
  // OLS on a constant with cov_type="cluster" of statsmodels 0.15.0, Student's quantiles of scipy 1.17.1.
  test.each([
    ['few', [1, 1, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1], (i: number) => Number('00011122344445556777'[i]), 5.2165],
    ['pairs', [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1], (i: number) => Math.floor(i / 2), 5.0368],
    [
      'many, shared unevenly',
      Array.from({ length: 300 }, (_, i) => ((i % 7 === 0) !== (((i * i) % 61) * 7) % 10 < 6 ? 1 : 0)),
      (i: number) => (i * i) % 61,
      57.4988,
    ],
    [
      'between right and wrong',
      Array.from({ length: 300 }, (_, i) => ((i * 37) % 100) / 200 + ((((i * i) % 61) * 13) % 61) / 122),
      (i: number) => (i * i) % 61,
      54.6369,
    ],
  ])('are worth as many as statsmodels says: %s', (_, scores, image, expected) => {
    const size = effectiveSize(
      scores,
      scores.map((_, i) => String(image(i))),
    );
    expect(size / expected).toBeCloseTo(1, 3);
  });

  test('are worth their number where each has its own, and never more; nothing where all are about one', () => {
    const scores = Array.from({ length: 12 }, (_, i) => i % 2);
    const each = scores.map((_, i) => `${i}`);
    expect(effectiveSize(scores, each)).toBe(12);
    expect(mean('all', scoredOn(scores, each)).interval).toEqual(wilson(6, 12));
    // Every image has one right and one wrong, which is more even than chance.
    const pairs = scores.map((_, i) => `${Math.floor(i / 2)}`);
    expect(effectiveSize(scores, pairs)).toBeLessThanOrEqual(12);
    const one = scores.map(() => 'a');
    expect([effectiveSize(scores, one), mean('all', scoredOn(scores, one)).interval]).toEqual([0, { low: 0, high: 1 }]);
    expect([mean('none', []).interval, detectableDifference(scores, { together: one })]).toEqual([{ low: 0, high: 1 }, undefined]);
  });

  test('that are all right are taken for one each image', () => {
    const images = Array.from({ length: 400 }, (_, i) => `${Math.floor(i / 10)}`);
    const { low, high } = mean('all', scoredOn(new Array(400).fill(1), images)).interval;
    expect([low, high]).toEqual([wilson(40, 40).low, 1]);
  });

  test.each([
    [200, 6, 0.8, 0.7],
    [40, 18, 0.85, 0.7],
    [500, 2, 0.6, 1],
    [20, 6, 0.9, 0.5],
    [30, 6, 0.7, 0],
  ])('have intervals that hold the truth in 95 of 100 runs: %d images, %d questions each', (imageCount, each, share, alike) => {
    const random = new Random(11);
    const happens = (chance: number): boolean => random.below(1e6) < chance * 1e6;
    const images = Array.from({ length: imageCount * each }, (_, i) => `${Math.floor(i / each)}`);
    let [held, plain] = [0, 0];
    for (let round = 0; round < 400; round++) {
      const easy = Array.from({ length: imageCount }, () => happens(share));
      const scores = images.map((image) => ((happens(alike) ? easy[Number(image)] : happens(share)) ? 1 : 0));
      const within = ({ low, high }: { low: number; high: number }): boolean => low <= share && share <= high;
      if (within(mean('all', scoredOn(scores, images)).interval)) held += 1;
      const right = scores.reduce((sum: number, score) => sum + score, 0);
      if (within(wilson(right, scores.length))) plain += 1;
    }
    expect(held / 400).toBeGreaterThan(0.92);
    // Taken for questions on their own they promise too much, unless they are that.
    if (alike > 0) expect(plain / 400).toBeLessThan(0.9);
  });

  test('show as small a difference as their images do, where those say all', () => {
    const scores = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? 0 : 1));
    const [images, tenfold] = [scores.map((_, i) => `${i}`), scores.flatMap((score) => new Array<number>(10).fill(score))];
    const alone = detectableDifference(scores, { together: images }) ?? 0;
    const shared = detectableDifference(tenfold, { together: tenfold.map((_, i) => `${Math.floor(i / 10)}`) }) ?? 0;
    expect(shared / alone).toBeCloseTo(1, 1);
    expect(detectableDifference(tenfold)).toBeLessThan(0.4 * alone);
  });
});
