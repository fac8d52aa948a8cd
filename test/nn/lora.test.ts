import { expect, test } from 'vitest';
import { Linear } from '../../src/nn/linear.ts';
import { DropoutSeed, LoraLinear, type LoraOptions, loraLayers, mergeLora } from '../../src/nn/lora.ts';
import { Module } from '../../src/nn/module.ts';
import { ones, randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const generator = new Generator(11);
const random = (...shape: number[]): Tensor => randn(shape, { generator });

/** A layer of 5 outputs and 7 inputs with a change that matters. */
function changed(options: LoraOptions, dtype: 'float32' | 'bfloat16' = 'float32'): LoraLinear {
  const layer = new LoraLinear(Linear.of(random(5, 7).cast(dtype), random(5).cast(dtype)), options);
  layer.setFactors(random(options.rank, 7), random(5, options.rank));
  return layer;
}

class Pair extends Module {
  readonly first: Linear;
  readonly rest: readonly Linear[];

  constructor() {
    super();
    this.first = new Linear(7, 5);
    this.rest = [new Linear(5, 5, { bias: false }), new Linear(5, 2)];
  }

  forward(x: Tensor): Tensor {
    return this.rest.reduce((h, layer) => layer.forward(h), this.first.forward(x));
  }
}

test('fresh factors change nothing, to the bit', () => {
  const base = Linear.of(random(5, 7), random(5));
  const layer = new LoraLinear(base, { rank: 3, alpha: 6 });
  layer.initializeFactors(generator);
  const x = random(4, 7);
  expect(layer.forward(x).equal(base.forward(x))).toBe(true);
  const bound = 1 / Math.sqrt(7);
  const a = layer.loraA.weight.toArray() as Float32Array;
  expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(bound);
  expect(new Set(a).size).toBe(21);
});

test.each([
  [{ rank: 2, alpha: 3 }, 1.5],
  [{ rank: 4, alpha: 3, rankStabilized: true }, 1.5],
])('%j multiplies B A by %d', (options, scale) => {
  const layer = changed(options);
  const { base, loraA, loraB } = layer;
  const x = random(2, 3, 7);
  const wanted = base.forward(x).add(x.matmul(loraA.weight.t()).matmul(loraB.weight.t()).mul(scale));
  expect(layer.forward(x)).toMatchTensor(wanted);
  expect(layer.delta()).toMatchTensor(loraB.weight.matmul(loraA.weight).mul(scale));
});

test.each(['float32', 'bfloat16'] as const)('merging and undoing it in %s leaves every bit of the base', (dtype) => {
  const layer = changed({ rank: 2, alpha: 4 }, dtype);
  const weight = layer.base.weight.clone();
  const x = random(6, 7).cast(dtype);
  const beside = layer.forward(x);
  layer.merge();
  layer.merge();
  const merged = layer.forward(x);
  expect(merged.cast('float32')).toMatchTensor(beside.cast('float32'), { atol: dtype === 'float32' ? 1e-5 : 0.2 });
  expect(layer.weight.equal(layer.merged().weight)).toBe(true);
  layer.unmerge();
  expect(layer.forward(x).equal(beside)).toBe(true);
  expect(layer.base.weight.equal(weight)).toBe(true);
  expect(beside.dtype).toBe(dtype);
});

test('only the factors learn, in float32 beside weights of any dtype', () => {
  const layer = changed({ rank: 2, alpha: 4 }, 'bfloat16');
  layer.learn();
  expect([...layer.namedParameters()].map(([key, { requiresGrad, dtype }]) => [key, requiresGrad, dtype])).toEqual([
    ['weight', false, 'bfloat16'],
    ['bias', false, 'bfloat16'],
    ['lora_A.weight', true, 'float32'],
    ['lora_B.weight', true, 'float32'],
  ]);
  layer
    .forward(ones([2, 7]).cast('bfloat16'))
    .sum()
    .backward();
  expect(layer.loraA.weight.grad?.dtype).toBe('float32');
  expect(layer.base.weight.grad).toBeUndefined();
});

test('keys of what a layer holds stay those of checkpoints, and merging leaves nothing else', () => {
  const pair = new Pair();
  pair.initialize(generator);
  const plain = [...pair.namedParameters()].map(([key]) => key);
  const x = random(3, 7);
  const before = pair.forward(x);
  pair.replaceModules<Linear, Linear>(Linear, (layer, key) => {
    if (key === 'rest.0') return undefined;
    const adapted = new LoraLinear(layer, { rank: 2, alpha: 2 });
    adapted.initializeFactors(generator);
    return adapted;
  });
  expect(pair.forward(x).equal(before)).toBe(true);
  expect([...loraLayers(pair).keys()]).toEqual(['first', 'rest.1']);
  expect([...pair.namedParameters()].map(([key]) => key).filter((key) => !key.includes('lora'))).toEqual(plain);
  for (const layer of loraLayers(pair).values()) layer.loraB.weight.add_(1);
  const after = pair.forward(x);
  expect(after.equal(before)).toBe(false);
  mergeLora(pair);
  expect([...pair.namedParameters()].map(([key]) => key)).toEqual(plain);
  expect(pair.forward(x)).toMatchTensor(after);
});

test('dropout keeps the mean, follows its seed, and stops with it', () => {
  const layer = changed({ rank: 2, alpha: 4 });
  const other = changed({ rank: 2, alpha: 4 });
  const seed = new DropoutSeed();
  layer.learn({ dropout: 0.25, seed, layer: 0 });
  other.learn({ dropout: 0.25, seed, layer: 1 });
  other.setFactors(layer.loraA.weight.clone(), layer.loraB.weight.clone());
  const x = ones([20_000, 7]);
  const whole = layer.forward(x);
  seed.value = 5;
  const [first, again] = [layer.forward(x), layer.forward(x)];
  expect(again.equal(first)).toBe(true);
  expect(first.equal(whole)).toBe(false);
  expect(first.mean(0)).toMatchTensor(whole.mean(0), { atol: 0.15 });
  const [own, others] = [layer, other].map((each) => each.forward(x).sub(each.base.forward(x)));
  expect(own?.equal(others as Tensor)).toBe(false);
  seed.value = 6;
  expect(layer.forward(x).equal(first)).toBe(false);
  seed.value = undefined;
  expect(layer.forward(x).equal(whole)).toBe(true);
});
