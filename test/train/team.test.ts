import { afterAll, expect, test } from 'vitest';
import type { Batch } from '../../src/data/batch.ts';
import type { StepData } from '../../src/data/loader.ts';
import { createTinyLlava } from '../../src/model/tinyllava.ts';
import { Linear } from '../../src/nn/linear.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { LossScale } from '../../src/train/loss-scale.ts';
import { shareStep } from '../../src/train/share.ts';
import { solo, type Team, weightSum } from '../../src/train/team.ts';
import { tinyTowers } from '../model/tiny-parts.ts';

const usual = threads();
afterAll(() => setThreads(usual));

test('the sum of weights is that of the weights alone, on any number of threads', () => {
  const layer = new Linear(1000, 777).initialize(new Generator(1));
  const sums = [1, 2, 3, 4].map((count) => {
    setThreads(count);
    return weightSum(layer);
  });
  expect(new Set(sums).size).toBe(1);
  layer.weight.detach().narrow(0, 3, 1).add_(1e-3);
  expect(weightSum(layer)).not.toBe(sums[0]);
});

test('a black image goes behind text of any length', () => {
  const language = { type: 'llama', vocabSize: 8, hiddenSize: 8, intermediateSize: 8, numHiddenLayers: 1, numAttentionHeads: 1 };
  const model = createTinyLlava({ vision: tinyTowers.clip, connector: { type: 'linear' }, language, imageTokenId: 7 });
  const ids = new Int32Array(200_000).fill(1);
  const text: Batch = { ids, labels: ids, lengths: [ids.length], rows: ['a'] };
  const facts = { examples: 1, tokens: ids.length, supervisedTokens: 1, cut: 0, skipped: [], microBatches: 1 };
  const step = { ...facts, pictured: [false], batches: () => [text] } as unknown as StepData;
  const team: Team = { ...solo, size: 2, gather: (own) => [own, { ...own, pictured: [true] }] };
  const [batch] = shareStep(team, step, { aligned: model }).input.batches();
  expect(batch).toMatchObject({ lengths: [200_000, 16], blank: { tokens: 16, views: 1 } });
  expect([batch?.ids.length, batch?.ids.at(-1), batch?.labels.at(-1), batch?.ids[0]]).toEqual([200_016, 7, -100, 1]);
});

test('a loss scale is halved until there is nothing to halve, and grows behind 2,000 sound steps', () => {
  const scale = new LossScale();
  expect(Array.from({ length: 18 }, () => scale.update({ overflowed: true }))).toEqual([...new Array(16).fill(true), false, false]);
  expect(scale.state).toEqual({ factor: 1, soundSteps: 0 });
  for (let i = 0; i < 2000; i++) scale.update({ overflowed: false });
  expect(scale.state).toEqual({ factor: 2, soundSteps: 0 });
});
