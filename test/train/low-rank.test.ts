import { expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { connectors } from '../../src/model/connector/index.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import type { visionTowers } from '../../src/model/vision/index.ts';
import { loraLayers } from '../../src/nn/lora.ts';
import { noGrad } from '../../src/tensor/autograd.ts';
import { randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { settle } from '../../src/train/low-rank.ts';
import { type PartName, parseRecipe, type RecipeInput, type Stage } from '../../src/train/recipe.ts';
import { trainableOf, tune } from '../../src/train/tune.ts';
import '../matchers.ts';
import { languageReferences, reference } from '../model/reference.ts';
import { tinyConnectors, tinyTowers } from '../model/tiny-parts.ts';

/** A stage in which one part learns by low-rank changes. */
function stageOf(part: PartName, kind: 'lora' | 'qlora'): Stage {
  const learns = { [part]: { tune: kind, rank: 2, dropout: 0, ...(kind === 'qlora' && { bits: 8 }) } };
  const [stage] = parseRecipe({
    model: { from: 'x' },
    stages: [{ name: 'all', learns, data: { conversations: 'x' }, optimizer: { learningRate: 1 }, batchSize: 1, steps: 1 }],
  } as RecipeInput).stages;
  return stage as Stage;
}

/** Random values for the factors, which begin at no change. */
function shake(model: TinyLlava): void {
  const generator = new Generator(8);
  for (const { loraB } of loraLayers(model).values()) noGrad(() => loraB.weight.normal_({ std: 0.2, generator }));
}

function check(model: TinyLlava, part: PartName, run: () => Tensor): void {
  const before = run();
  const keys = [...model.namedParameters()].map(([key]) => key);
  const stage = stageOf(part, 'lora');
  const planned = Object.values(trainableOf(model, stage)).reduce((sum, count) => sum + count, 0);
  tune(model, stage);
  expect(loraLayers(model).size).toBeGreaterThan(0);
  expect(model.parameterCount({ trainable: true })).toBe(planned);
  expect(run()).toMatchTensor(before);
  shake(model);
  const changed = run();
  expect(changed).not.toMatchTensor(before, { atol: 1e-4 });
  changed.square().sum().backward();
  const factors = [...model.parameters()].filter(({ requiresGrad }) => requiresGrad);
  expect(factors.filter(({ grad }) => grad !== undefined).length).toBeGreaterThan(factors.length / 3);
  settle(model);
  expect([...model.namedParameters()].map(([key]) => key)).toEqual(keys);
  expect(run()).toMatchTensor(changed, { atol: 1e-4 });
  // In eight bits the same changes do nearly the same.
  const plain = run();
  tune(model, stageOf(part, 'qlora'));
  expect(run().sub(plain).norm().item() / plain.norm().item()).toBeLessThan(0.05);
  settle(model);
  expect([...model.namedParameters()].map(([key]) => key)).toEqual(keys);
}

test.each(languageReferences)('%s learns low-rank changes in all of its linear layers', async (name) => {
  const { folder, ids, lengths } = reference(name);
  const { model } = await loadCheckpoint(folder, { dtype: 'float32' });
  check(model, 'language', () => model.hidden({ ids: ids(), lengths: lengths() }));
});

const language = { type: 'llama', vocabSize: 20, hiddenSize: 16, intermediateSize: 24, numHiddenLayers: 1, numAttentionHeads: 2 };

test.each(Object.keys(tinyTowers).filter((name) => name !== 'efficientnet-lite') as (keyof typeof visionTowers)[])(
  'the tower %s does',
  (name) => {
    const model = createTinyLlava({
      language,
      vision: tinyTowers[name],
      connector: { type: name === 'mof' ? 'mof-mlp' : 'mlp' },
      imageTokenId: 19,
    });
    model.initialize(new Generator(1));
    const pixels = randn([2, 3, 16, 16], { generator: new Generator(2) });
    check(model, 'vision', () => model.encodeImages(pixels));
  },
);

test.each(Object.keys(tinyConnectors) as (keyof typeof connectors)[])(
  'the connector %s does, or says that it has no linear layers',
  (name) => {
    const vision = name === 'mof-mlp' ? tinyTowers.mof : tinyTowers.clip;
    const width = name === 'identity' ? 8 : 16;
    const model = createTinyLlava({
      language: { ...language, hiddenSize: width },
      vision,
      connector: tinyConnectors[name].settings,
      imageTokenId: 19,
    });
    model.initialize(new Generator(1));
    const pixels = randn([2, 3, 16, 16], { generator: new Generator(2) });
    const stage = stageOf('connector', 'lora');
    if (name === 'identity') {
      expect(() => tune(model, stage)).toThrowErrorMatchingInlineSnapshot(
        `[ConfigError: stage all: connector has no linear layers for lora]`,
      );
      return;
    }
    const before = model.encodeImages(pixels);
    tune(model, stage);
    expect(model.encodeImages(pixels)).toMatchTensor(before);
    shake(model);
    const changed = model.encodeImages(pixels);
    settle(model);
    expect(model.encodeImages(pixels)).toMatchTensor(changed);
  },
);
