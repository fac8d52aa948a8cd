import { expect, test } from 'vitest';
import { gpus } from '../../scripts/scaling/cluster.ts';
import { paddedNumbers, replicatedCommunication, shardedCommunication } from '../../scripts/scaling/communication.ts';
import { type Counts, countModel } from '../../scripts/scaling/counts.ts';
import { rowWork, workOf } from '../../scripts/scaling/flops.ts';
import { predictMemory } from '../../scripts/scaling/memory.ts';
import { learnedOf, microBatchRows, parametersOf, predictStep } from '../../scripts/scaling/step.ts';
import { createTinyLlava } from '../../src/model/tinyllava.ts';
import { stageOf } from './stage.ts';

const model = createTinyLlava({
  vision: {
    type: 'siglip',
    hiddenSize: 8,
    intermediateSize: 16,
    numHiddenLayers: 2,
    numAttentionHeads: 2,
    imageSize: 4,
    patchSize: 2,
    visionUseHead: false,
  },
  connector: { type: 'mlp' },
  language: {
    type: 'llama',
    vocabSize: 10,
    hiddenSize: 12,
    intermediateSize: 20,
    numHiddenLayers: 2,
    numAttentionHeads: 3,
    numKeyValueHeads: 1,
  },
  imageTokenId: 9,
});
// Of a block of the language model: queries and output 12 x 12, keys and values 12 x 4, three of 12 x 20; and two norms.
const products = 2 * 144 + 2 * 48 + 3 * 240;
const sizes = [144, 48, 48, 144, 240, 240, 240, 12, 12];
const block: Counts = {
  parameters: products + 24,
  learned: products + 24,
  tensors: sizes.map((numbers) => ({ numbers, learns: true })),
  products,
  inputProducts: products,
  weightProducts: products,
  attention: 12,
};
// The connector's two layers; of the first no gradient of the input is needed.
const connector = { products: 96 + 144, inputProducts: 144, weightProducts: 96 + 144 };

test('pieces of a model are counted from its shapes', () => {
  const counts = countModel(model, stageOf({ connector: 'full', language: 'full' }));
  expect(counts.blocks).toEqual([block, block]);
  expect(counts.connector).toMatchObject({ ...connector, parameters: 240 + 24, learned: 240 + 24 });
  expect(counts.head).toMatchObject({ products: 120, inputProducts: 120, weightProducts: 120 });
  expect(counts.towerBlocks).toMatchObject([{ products: 4 * 64 + 2 * 128, attention: 8, learned: 0, inputProducts: 0 }]);
  expect([counts.towerRows, counts.viewTokens, counts.idleBlocks.length]).toEqual([4, 4, 1]);
  // Connector, embeddings, head and the last norm.
  expect(counts.root.learned).toBe(264 + 120 + 120 + 12);
  expect(parametersOf(counts)).toBe(model.parameterCount());
});

test('what is frozen takes no gradients of weights, and in front of what learns none at all', () => {
  const align = countModel(model, stageOf({ connector: 'full' }));
  const frozen = sizes.map((numbers) => ({ numbers, learns: false }));
  expect(align.blocks[0]).toEqual({ ...block, learned: 0, tensors: frozen, weightProducts: 0 });
  const upper = countModel(model, stageOf({ language: { tune: 'from-layer', layer: 1 } }));
  expect(upper.blocks.map(({ learned, inputProducts }) => [learned > 0, inputProducts > 0])).toEqual([
    [false, false],
    [true, true],
  ]);
  const tower = countModel(model, stageOf({ vision: 'full', connector: 'full' }));
  expect(tower.connector.inputProducts).toBe(240);
  expect(tower.towerBlocks[0]?.weightProducts).toBe(512);
});

test('low-rank changes add their factors', () => {
  const { blocks } = countModel(model, stageOf({ connector: 'full', language: { tune: 'lora', rank: 2, targets: ['q_proj'] } }));
  const factors = 2 * (12 + 12);
  expect(blocks[0]).toEqual({
    ...block,
    parameters: block.parameters + factors,
    learned: factors,
    tensors: [...sizes.map((numbers) => ({ numbers, learns: false })), { numbers: 24, learns: true }, { numbers: 24, learns: true }],
    products: products + factors,
    inputProducts: products + factors,
    weightProducts: factors,
  });
});

test('the work of a row is two for a multiplication and an addition', () => {
  const counts = countModel(model, stageOf({ connector: 'full' }));
  const { forward, recompute, backward } = rowWork(counts, { views: 1, text: 6, supervised: 5 });
  const language = 2 * 10 * 2 * products;
  const scores = 0.5 * 2 * 4 * 12 * 10 ** 2;
  expect(forward).toEqual({
    vision: 2 * 4 * (512 + 8 * 3 * 4),
    connector: 2 * 4 * 240,
    language,
    attention: 4 * 8 * 4 ** 2 + scores,
    head: 2 * 5 * 120,
  });
  expect(recompute).toEqual({ vision: 0, connector: 0, language, attention: scores, head: 0 });
  expect(backward).toEqual({ vision: 0, connector: 2 * 4 * (144 + 240), language, attention: 2.5 * scores, head: 2 * 5 * 120 });
});

const counts = countModel(model, stageOf({ connector: 'full', language: 'full' }));
const kinds = [{ share: 1, views: 1, text: 6, supervised: 5 }];
const cluster = { gpu: gpus['a100-40g'], gpusPerNode: 8, cards: 8, cardBits: 200e9 };
const traffic = { counts, kinds, cluster, ranks: 4, precision: 'bfloat16', rate: 1, microBatches: [3, 3, 2] } as const;

test('replicas send what learns once, behind it a number for each tensor', () => {
  const { sent } = replicatedCommunication(traffic);
  const tensors = 2 * 9 + 4 + 1 + 1 + 1;
  expect(sent).toEqual({ allReduce: 1.5 * 4 * (learnedOf(counts) + tensors), allGather: 0, reduceScatter: 0 });
});

test('shards of whole blocks of 256 are gathered for every pass of a micro-batch, the last one for both at once, and gradients scattered behind it', () => {
  const { sent } = shardedCommunication(traffic);
  // Nothing of this model is larger than 4 x 256; the frozen tower stays whole.
  const [one, root] = [9 * 1024, 7 * 1024];
  expect(sent).toEqual({
    allReduce: 0,
    allGather: 0.75 * 2 * (3 * (2 * one + one) + root),
    reduceScatter: 0.75 * 4 * 3 * (2 * one + root),
  });
  expect(paddedNumbers([{ numbers: 1025, learns: true }], 4)).toBe(2048);
});

test('a tower that learns is shared out with what it does not run', () => {
  const learning = countModel(model, stageOf({ vision: 'full', connector: 'full', language: 'full' }));
  const { sent } = shardedCommunication({ ...traffic, counts: learning });
  // Sixteen parameters of each of its blocks, and patches, their bias, positions and a norm.
  const [tower, one, root] = [16 * 1024, 9 * 1024, (16 + 5 + 7) * 1024];
  expect(sent.allGather).toBe(0.75 * 2 * (3 * (tower + 2 * one + tower + one) + root));
});

test('what the backward pass does not hide is waited for', () => {
  // So slow that all buckets travel behind it, or so quick that none does.
  const [hidden, seen] = [1, 1e30].map((rate) => replicatedCommunication({ ...traffic, rate }).seconds) as [number, number];
  expect(hidden).toBeLessThan(seen);
  const [slow, quick] = [1, 1e30].map((rate) => shardedCommunication({ ...traffic, rate }).seconds) as [number, number];
  expect(slow).toBeLessThan(quick);
});

test('rows of a rank are cut into micro-batches, those of the rank that has most', () => {
  expect(microBatchRows({ batchSize: 20, ranks: 3, microBatch: 3 })).toEqual([3, 3, 1]);
  expect(microBatchRows({ batchSize: 8, ranks: 32, microBatch: 3 })).toEqual([1]);
});

test('a step of equal rows on one GPU is its work and the optimizer', () => {
  const run = { counts, kinds, cluster, precision: 'bfloat16', batchSize: 8, microBatch: 4, utilization: 0.5 } as const;
  const alone = predictStep({ ...run, ranks: 1, strategy: 'replicated' });
  const compute = (8 * workOf(rowWork(counts, kinds[0] as (typeof kinds)[number]))) / (0.5 * 312e12);
  const optimizer = (30 * learnedOf(counts)) / (0.8 * 1.555e12);
  expect(alone.compute).toBeCloseTo(compute, 15);
  expect(alone.waiting).toBeCloseTo(0, 15);
  expect(alone.communication).toBe(0);
  expect(alone.optimizer).toBeCloseTo(optimizer, 15);
  expect(alone.efficiency).toBeCloseTo(compute / (compute + optimizer), 10);
});

test('ranks that have no row wait for those that have one', () => {
  const run = {
    counts,
    kinds,
    cluster,
    precision: 'bfloat16',
    batchSize: 8,
    microBatch: 4,
    utilization: 0.5,
    strategy: 'replicated',
  } as const;
  const [eight, thirtyTwo] = [8, 32].map((ranks) => predictStep({ ...run, ranks })) as [
    ReturnType<typeof predictStep>,
    ReturnType<typeof predictStep>,
  ];
  expect(thirtyTwo.compute).toBeCloseTo(eight.compute / 4, 15);
  expect(thirtyTwo.compute + thirtyTwo.waiting).toBeCloseTo(eight.compute, 12);
});

test('memory is shared out but for what is gathered and computed', () => {
  const stage = stageOf({ connector: 'full', language: 'full' });
  const study = { model, stage, counts, kinds };
  const options = { microBatch: 2, precision: 'bfloat16' } as const;
  const [all, learned] = [parametersOf(counts), learnedOf(counts)];
  const whole = predictMemory(study, { ...options, strategy: 'replicated', ranks: 4 });
  expect(whole).toMatchObject({ weights: 2 * all, gradients: 4 * learned, beside: 2 * learned, optimizer: 8 * learned, gathered: 0 });
  const shard = predictMemory(study, { ...options, strategy: 'sharded', ranks: 4 });
  const tower = counts.towerBlocks[0]?.parameters ?? 0;
  const frozen = 2 * tower + counts.towerRoot.parameters;
  expect(shard).toMatchObject({
    weights: 2 * (256 * (2 * 9 + 7) + frozen),
    gradients: learned,
    beside: learned / 2,
    optimizer: 2 * learned,
    gathered:
      2 * (2 * block.parameters + counts.root.parameters) +
      2 * (block.learned + counts.root.learned) +
      4 * (3 * block.learned + counts.root.learned),
    activations: whole.activations,
  });
});
