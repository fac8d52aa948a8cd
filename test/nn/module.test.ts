import { expect, test } from 'vitest';
import { normal, ones, zeros } from '../../src/nn/init.ts';
import { Linear } from '../../src/nn/linear.ts';
import { camelCase, type KeyTable, Module, parameter, snakeCase } from '../../src/nn/module.ts';
import { LayerNorm } from '../../src/nn/norm.ts';
import { full, tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { WeightSource } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

class Block extends Module {
  readonly qProj = new Linear(3, 2, { bias: false });
  readonly layerNorm1 = new LayerNorm(3);
}

class Model extends Module {
  readonly classEmbedding: Tensor = parameter([3], normal(1));
  readonly embedTokens: Linear;
  readonly layers = [new Block(), new Block()];
  readonly missingBias: Tensor | undefined = undefined;
  readonly width = 3;
  readonly #cache = parameter([9], zeros);

  constructor() {
    super();
    this.embedTokens = new Linear(3, 3);
  }

  protected override get keys(): KeyTable {
    return { 'layers.0': 'first', 'layers.0.layer_norm1': 'first_norm', embed_tokens: '' };
  }

  get cached(): number {
    return this.#cache.numel;
  }
}

function source(tensors: Record<string, Tensor>, path = 'weights.safetensors'): WeightSource {
  const find = (name: string): Tensor => tensors[name] ?? full([0], 0);
  return {
    path,
    names: Object.keys(tensors),
    shape: (name) => find(name).shape,
    dtype: (name) => find(name).dtype,
    tensor: (name) => find(name).alias(),
  };
}

const weightsOf = (module: Module, value: number): Record<string, Tensor> =>
  Object.fromEntries(Array.from(module.namedParameters(), ([key, { shape }]) => [key, full(shape, value)]));

test.each([
  ['qProj', 'q_proj'],
  ['fc1', 'fc1'],
  ['linear_1', 'linear_1'],
  ['layerNorm1', 'layer_norm1'],
  ['preLayrnorm', 'pre_layrnorm'],
  ['inProjWeight', 'in_proj_weight'],
  ['a2B', 'a2_b'],
])('the property %s is the key %s, and back', (property, key) => {
  expect(snakeCase(property)).toBe(key);
  expect(camelCase(key)).toBe(property);
});

test('property paths are keys, tables rename whole segments, the longest path first, and private fields are no parameters', () => {
  const model = new Model();
  expect(model.cached).toBe(9);
  expect(Array.from(model.namedParameters('model.'), ([key, { shape }]) => `${key} [${shape}]`)).toEqual([
    'model.class_embedding [3]',
    'model.weight [3,3]',
    'model.bias [3]',
    'model.first.q_proj.weight [2,3]',
    'model.first_norm.weight [3]',
    'model.first_norm.bias [3]',
    'model.layers.1.q_proj.weight [2,3]',
    'model.layers.1.layer_norm1.weight [3]',
    'model.layers.1.layer_norm1.bias [3]',
  ]);
  expect(Array.from(model.children(), ([path, child]) => `${path} ${child.parameterCount()}`)).toEqual([
    'embed_tokens 12',
    'layers.0 12',
    'layers.1 12',
  ]);
});

test('a new module counts its parameters without memory', () => {
  const huge = new Linear(1_000_000, 1_000_000);
  expect(huge.parameterCount()).toBe(1_000_001_000_000);
  expect(huge.weight.device).toBe('meta');
  expect(huge.materialized).toBe(false);
});

test('initialize draws the same values from the same seed and outlives the scope around it', () => {
  let model: Model | undefined;
  {
    using _scope = new Scope();
    model = new Model().initialize(new Generator(7));
  }
  expect(model.materialized).toBe(true);
  expect(model.layers[1]?.layerNorm1.weight).toMatchTensor([1, 1, 1]);
  expect(model.classEmbedding).toMatchTensor(new Model().initialize(new Generator(7)).classEmbedding, { atol: 0 });
  expect(model.classEmbedding).not.toMatchTensor(new Model().initialize(new Generator(8)).classEmbedding, { atol: 1e-3 });
  expect(model.initialize(new Generator(1), { dtype: 'bfloat16' }).classEmbedding.dtype).toBe('bfloat16');
});

test('load copies tensors as they are, or converts them', () => {
  const model = new Model();
  const weights = weightsOf(model, 2);
  model.load(source(weights));
  expect(model.embedTokens.weight).toMatchTensor(new Array(9).fill(2));
  weights['weight']?.fill_(5);
  expect(model.embedTokens.weight).toMatchTensor(new Array(9).fill(2));
  model.load(source(weights), { dtype: 'bfloat16' });
  expect(model.embedTokens.weight.dtype).toBe('bfloat16');
});

test('load under a prefix looks at nothing else', () => {
  const inner = weightsOf(new Block(), 3);
  const weights = Object.fromEntries(Object.entries(inner).map(([key, value]) => [`block.${key}`, value]));
  const block = new Block().load(source({ ...weights, 'other.weight': tensor([1]) }), { prefix: 'block.' });
  expect(block.layerNorm1.bias).toMatchTensor([3, 3, 3]);
});

test('load lists everything that is wrong and changes nothing', () => {
  const model = new Model().initialize(new Generator(1));
  const before = model.classEmbedding;
  const { class_embedding: _, bias: __, ...rest } = weightsOf(model, 2);
  const weights = { ...rest, weight: full([3, 4], 0), 'lm_head.weight': full([2, 2], 0), extra: full([], 0) };
  expect(() => model.load(source(weights))).toThrowErrorMatchingInlineSnapshot(`
    [CheckpointError: weights.safetensors: does not fit Model: 2 missing, 2 unexpected, 1 mis-shaped
      missing class_embedding [3]
      missing bias [3]
      unexpected lm_head.weight [2, 2]
      unexpected extra []
      mis-shaped weight: expected [3, 3], got [3, 4]]
  `);
  expect(model.classEmbedding).toBe(before);
  expect(before.freed).toBe(false);
});

test('long lists of problems are cut', () => {
  const weights = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`extra.${i}`, full([i], 0)]));
  expect(() => new Block().load(source({ ...weightsOf(new Block(), 1), ...weights }))).toThrowErrorMatchingInlineSnapshot(`
    [CheckpointError: weights.safetensors: does not fit Block: 0 missing, 9 unexpected, 0 mis-shaped
      unexpected extra.0 [0]
      unexpected extra.1 [1]
      unexpected extra.2 [2]
      unexpected extra.3 [3]
      unexpected extra.4 [4]
      unexpected extra.5 [5]
      unexpected … and 3 more]
  `);
});

test('modules are frozen until told to learn, and stay so through initialize and load', () => {
  const model = new Model();
  expect(model.parameterCount({ trainable: true })).toBe(0);
  model.layers[0]?.trainable();
  expect(model.parameterCount({ trainable: true })).toBe(12);
  model.initialize(new Generator(1));
  expect(model.parameterCount({ trainable: true })).toBe(12);
  model.load(source(weightsOf(model, 1)));
  expect(model.layers[0]?.qProj.weight.requiresGrad).toBe(true);
  expect(model.freeze().parameterCount({ trainable: true })).toBe(0);
});

test('initialize and load give back what was there before', () => {
  const model = new Model().initialize(new Generator(1));
  const weights = weightsOf(model, 1);
  const before = liveTensors();
  model.initialize(new Generator(2)).load(source(weights), { dtype: 'float64' }).initialize(new Generator(3));
  expect(liveTensors()).toBe(before);
});

test('starting recipes', () => {
  const weight = full([2, 3], 9);
  ones(weight, new Generator(0));
  expect(weight).toMatchTensor([1, 1, 1, 1, 1, 1]);
  const linear = new Linear(400, 100).initialize(new Generator(5));
  expect(linear.weight.abs().amax().item()).toBeCloseTo(1 / 20, 3);
  const normals = new Linear(400, 100, { init: normal(0.02) }).initialize(new Generator(5));
  expect(normals.weight.square().mean().sqrt().item()).toBeCloseTo(0.02, 3);
  expect(normals.bias?.abs().amax().item()).toBe(0);
});
