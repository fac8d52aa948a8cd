import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Batch } from '../../src/data/batch.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { visionTowers } from '../../src/model/vision/index.ts';
import { randn } from '../../src/tensor/create.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { ProcessGroup } from '../../src/tensor/distributed.ts';
import { Generator } from '../../src/tensor/random.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { Masters, type Precision } from '../../src/train/precision.ts';
import { Shards } from '../../src/train/shards.ts';
import { layersOf } from '../../src/train/share.ts';
import { trainStep } from '../../src/train/step.ts';
import { reference } from '../model/reference.ts';
import { tinyTowers } from '../model/tiny-parts.ts';
import { freePort } from './ranks.ts';

const usual = threads();
let group: ProcessGroup;
beforeAll(async () => {
  setThreads(1);
  group = new ProcessGroup({ rank: 0, size: 1, host: '127.0.0.1', port: await freePort() });
});
afterAll(() => {
  group.close();
  setThreads(usual);
});

/** Two sequences, each a word, an image where the model sees any, and two words that are learned. */
function batchFor(model: TinyLlava): Batch {
  const sequence = [3, ...new Array<number>(model.imageTokens).fill(model.config.imageTokenId ?? 0), 4, 5];
  const side = model.visionTower?.imageSize ?? 0;
  const labels = sequence.map((id, i) => (i < sequence.length - 2 ? -100 : id));
  return {
    ids: Int32Array.from([...sequence, ...sequence]),
    labels: Int32Array.from([...labels, ...labels]),
    lengths: [sequence.length, sequence.length],
    rows: ['a', 'b'],
    ...(model.visionTower && { pixels: randn([2, 3, side, side], { generator: new Generator(2) }) }),
  };
}

/** Every weight behind two steps of two micro-batches, sharded or not. */
function learned(model: TinyLlava, precision: Precision, { sharded }: { sharded: boolean }): Map<string, Float32Array> {
  model.trainable();
  const masters = new Masters(model, precision);
  const batch = batchFor(model);
  const parameters = new Map(model.namedParameters());
  const groups = [{ parameters, learningRate: 1e-3, weightDecay: 0.1 }];
  const shards = sharded ? new Shards(group, { model, layers: layersOf(model), whole: undefined, masters }) : undefined;
  const options = { betas: [0.9, 0.999], eps: 1e-8, masters: shards?.beside ?? masters.beside } as const;
  const optimizer = new AdamW(shards?.groups(groups) ?? groups, options);
  shards?.feed(optimizer);
  const live: number[] = [];
  for (let step = 0; step < 2; step++) {
    const input = { supervisedTokens: 8, microBatches: 2, batches: () => [batch, batch] };
    trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 1, recompute: true, exchange: shards });
    live.push(liveTensors());
  }
  expect(live[1]).toBe(live[0]);
  shards?.join();
  masters.restore();
  return new Map(Array.from(model.namedParameters(), ([key, weight]) => [key, weight.detach().cast('float32').toArray() as Float32Array]));
}

async function compare(make: () => TinyLlava | Promise<TinyLlava>, precision: Precision): Promise<void> {
  const whole = learned(await make(), precision, { sharded: false });
  const sharded = learned(await make(), precision, { sharded: true });
  expect([...sharded.keys()]).toEqual([...whole.keys()]);
  for (const [key, weight] of whole) {
    const [other, size] = [sharded.get(key) ?? new Float32Array(), Math.max(...weight.map(Math.abs))];
    // Gradients of micro-batches are summed in another order.
    expect(Math.max(...weight.map((value, i) => Math.abs(value - (other[i] ?? Number.NaN)))), key).toBeLessThan(3e-5 * (1 + size));
  }
}

test.each(Object.keys(visionTowers) as (keyof typeof visionTowers)[])(
  'a model with the tower %s learns the same when it is sharded',
  async (tower) => {
    const language = { type: 'llama', vocabSize: 20, hiddenSize: 8, intermediateSize: 12, numHiddenLayers: 3, numAttentionHeads: 2 };
    const make = (): TinyLlava =>
      createTinyLlava({ vision: tinyTowers[tower], connector: { type: 'mlp' }, language, imageTokenId: 19 }).initialize(new Generator(1));
    await compare(make, 'float32');
  },
);

test.each(['gemma3_text-scaled', 'phi', 'phi3-longrope', 'openelm', 'gemma2', 'llava-clip-two-layers'])(
  '%s learns the same when it is sharded',
  async (name) => {
    await compare(async () => (await loadCheckpoint(reference(name).folder)).model, 'float32');
    await compare(async () => (await loadCheckpoint(reference(name).folder)).model, 'bfloat16');
  },
);
