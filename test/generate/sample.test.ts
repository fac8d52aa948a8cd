import { describe, expect, test } from 'vitest';
import { Sampler, type SamplingOptions } from '../../src/generate/sample.ts';
import { randn, tensor } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import { onOneThread } from './tiny-model.ts';

onOneThread();

const logits = tensor([3.082, -0.587, -4.358, 1.137, -2.169, -2.797, 0.807, 1.676, -1.439, -0.807, -1.193, 0.364]);
const prompt = [3, 7, 7, 1];

/** Ids and probabilities of transformers 5.23: its logits processors in the order of `generate`, then softmax. */
const cases: Record<string, { options: SamplingOptions; expected: [id: number, probability: number][] }> = {
  temperature: {
    options: { temperature: 0.7 },
    expected: [
      [0, 0.787757],
      [7, 0.105701],
      [3, 0.048941],
      [6, 0.030545],
      [11, 0.016221],
      [1, 0.004169],
      [9, 0.003045],
      [10, 0.001754],
      [8, 0.001234],
      [4, 0.000435],
      [5, 0.000177],
      [2, 0.000019],
    ],
  },
  'top-k': {
    options: { temperature: 1, topK: 4 },
    expected: [
      [0, 0.670733],
      [7, 0.164411],
      [3, 0.095906],
      [6, 0.068949],
    ],
  },
  'top-p': {
    options: { temperature: 1, topP: 0.8 },
    expected: [
      [0, 0.720404],
      [7, 0.176587],
      [3, 0.103009],
    ],
  },
  'a top-p that only the likeliest token meets': { options: { temperature: 1, topP: 0.01 }, expected: [[0, 1]] },
  'min-p': {
    options: { temperature: 1, minP: 0.1 },
    expected: [
      [0, 0.670733],
      [7, 0.164411],
      [3, 0.095906],
      [6, 0.068949],
    ],
  },
  'a repetition penalty': {
    options: { temperature: 1, repetitionPenalty: 1.5 },
    expected: [
      [0, 0.675773],
      [7, 0.094745],
      [6, 0.069467],
      [3, 0.066146],
      [11, 0.044606],
      [9, 0.01383],
      [1, 0.01285],
      [10, 0.009401],
      [8, 0.007351],
      [4, 0.003543],
      [5, 0.001891],
      [2, 0.000397],
    ],
  },
  'all of them together': {
    options: { temperature: 1.3, topK: 8, topP: 0.9, minP: 0.12, repetitionPenalty: 1.2 },
    expected: [
      [0, 0.566738],
      [7, 0.155009],
      [3, 0.109725],
      [6, 0.098484],
      [11, 0.070044],
    ],
  },
};

describe('a sampler', () => {
  test.each(Object.entries(cases))('keeps what transformers keeps by %s', (_, { options, expected }) => {
    const { ids, probabilities, complete } = new Sampler(options).candidates(logits, prompt);
    const total = probabilities.reduce((sum, probability) => sum + probability, 0);
    expect(complete).toBe(true);
    expect(ids).toEqual(expected.map(([id]) => id));
    for (const [rank, [, probability]] of expected.entries()) expect((probabilities[rank] ?? 0) / total).toBeCloseTo(probability, 5);
  });

  test.each(Object.entries(cases))('draws by %s in the proportions of the probabilities', (_, { options, expected }) => {
    const sampler = new Sampler({ ...options, seed: 1 });
    const drawn = new Map<number, number>();
    for (let i = 0; i < 3000; i++) {
      const id = sampler.choose(logits, prompt);
      drawn.set(id, (drawn.get(id) ?? 0) + 1);
    }
    const allowed = new Map(expected);
    for (const [id, times] of drawn) {
      const share = allowed.get(id) ?? 0;
      expect(share, `token ${id} may not be drawn`).toBeGreaterThan(0);
      expect(Math.abs(times / 3000 - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / 3000) + 1e-3);
    }
  });

  test('draws from a vocabulary larger than its first look as from the whole softmax', () => {
    const wide = randn([5000], { generator: new Generator(3) });
    const probabilities = wide.softmax(0).toArray() as Float32Array;
    const order = Array.from(probabilities.keys()).sort((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0));
    const rank = new Map(order.map((id, place) => [id, place]));
    const draw = (options: SamplingOptions): number[] => {
      const sampler = new Sampler({ temperature: 1, seed: 5, ...options });
      return Array.from({ length: 120 }, () => rank.get(sampler.choose(wide, [])) ?? -1);
    };
    const beyond = (share: number): number => {
      let [reached, place] = [0, 0];
      for (; reached < share; place++) reached += probabilities[order[place] ?? 0] ?? 0;
      return place;
    };
    const half = beyond(0.5);
    const below = draw({}).filter((place) => place < half).length;
    expect(below).toBeGreaterThan(40);
    expect(below).toBeLessThan(80);
    expect(Math.max(...draw({}))).toBeGreaterThan(256);
    const nucleus = draw({ topP: 0.7 });
    expect(Math.max(...nucleus)).toBeLessThan(beyond(0.7) + 1);
    expect(Math.max(...nucleus)).toBeGreaterThan(256);
    expect(Math.max(...draw({ minP: 0.9 }))).toBeLessThan(10);
  });

  test('takes the likeliest token without a temperature, after the penalty', () => {
    expect(new Sampler().choose(logits, prompt)).toBe(0);
    expect(new Sampler({ repetitionPenalty: 2 }).choose(logits, [0, 0, 99])).toBe(7);
    expect(new Sampler().isArgmax).toBe(true);
    expect(new Sampler({ repetitionPenalty: 2 }).isArgmax).toBe(false);
    expect(new Sampler({ temperature: 1 }).isArgmax).toBe(false);
  });

  test('repeats its draws by its seed', () => {
    const draw = (seed: number): number[] => {
      const sampler = new Sampler({ temperature: 2, seed });
      return Array.from({ length: 20 }, () => sampler.choose(logits, []));
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });

  test('refuses settings that mean nothing, all in one message', () => {
    expect(
      () => new Sampler({ temperature: -1, topK: 0, topP: 0, minP: 2, repetitionPenalty: 0, seed: 0.5 }),
    ).toThrowErrorMatchingInlineSnapshot(`
      [ConfigError: generation.repetitionPenalty: Too small: expected number to be >0, got 0
      generation.temperature: Too small: expected number to be >=0, got -1
      generation.topK: Too small: expected number to be >0, got 0
      generation.topP: Too small: expected number to be >0, got 0
      generation.minP: Too big: expected number to be <=1, got 2
      generation.seed: Invalid input: expected int, received number, got 0.5]
    `);
  });
});
