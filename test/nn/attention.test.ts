import { expect, test } from 'vitest';
import { batchAttention, packedAttention, positions, type Scores } from '../../src/nn/attention.ts';
import { KvCache } from '../../src/nn/kv-cache.ts';
import { cat, randn } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const [H, G, D] = [6, 2, 4];

function qkv(rows: number, seed = 1): [Tensor, Tensor, Tensor] {
  const generator = new Generator(seed);
  return [randn([rows, H, D], { generator }), randn([rows, G, D], { generator }), randn([rows, G, D], { generator })];
}

/** Attention of one sequence, written out: softmax of the scaled scores of what each row may see. */
function plain(q: Tensor, k: Tensor, v: Tensor, { scale = D ** -0.5, window = 99, softcap }: Scores = {}): Tensor {
  const seen = k.size(0) - q.size(0);
  const rows = Array.from({ length: q.size(0) }, (_, t) => {
    const first = Math.max(0, seen + t + 1 - window);
    const heads = Array.from({ length: H }, (_, h) => {
      const [keys, values] = [k, v].map((x) => x.select(1, Math.floor(h / (H / G))).narrow(0, first, seen + t + 1 - first)) as [
        Tensor,
        Tensor,
      ];
      const scores = keys.matmul(q.select(0, t).select(0, h)).mul(scale);
      const weights = (softcap ? scores.div(softcap).tanh().mul(softcap) : scores).softmax(0);
      return weights.unsqueeze(0).matmul(values);
    });
    return cat(heads, 1);
  });
  return cat(rows, 0);
}

const part = (tensors: readonly Tensor[], start: number, length: number): [Tensor, Tensor, Tensor] =>
  tensors.map((x) => x.narrow(0, start, length)) as [Tensor, Tensor, Tensor];

test.each([[[5]], [[3, 3, 3]], [[1, 4, 4, 2, 1, 1]], [[2, 0, 3]]])(
  'packed sequences of lengths %j each see themselves alone',
  (lengths) => {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const tensors = qkv(total);
    let start = 0;
    const alone = lengths.flatMap((length) => {
      start += length;
      return length === 0 ? [] : [plain(...part(tensors, start - length, length))];
    });
    expect(packedAttention(...tensors, { lengths }, { layer: 0 })).toMatchTensor(cat(alone, 0));
  },
);

test('without a causal mask every row sees its whole sequence', () => {
  const [q, k, v] = qkv(6).map((x) => x.view(2, 3, -1, D)) as [Tensor, Tensor, Tensor];
  const y = batchAttention(q, k, v, { causal: false });
  expect(y.shape).toEqual([2, 3, H * D]);
  // The last row sees everything with a mask, too.
  expect(y.select(1, 2)).toMatchTensor(batchAttention(q, k, v, { causal: true }).select(1, 2));
  expect(y.select(1, 0)).not.toMatchTensor(batchAttention(q, k, v, { causal: true }).select(1, 0));
});

test.each([
  ['one by one', [1, 1, 1, 1, 1, 1, 1]],
  ['a prompt, then one by one', [4, 1, 1, 1]],
  ['a prompt in two pieces', [3, 4]],
])('with a cache, %s gives what all at once gives', (_, steps) => {
  const cache = new KvCache({ layers: 2, kvHeads: G, headSize: D, capacity: 2 });
  const tensors = qkv(7);
  const outputs: Tensor[] = [];
  for (const length of steps) {
    for (const layer of [1, 0]) {
      const y = packedAttention(...part(tensors, cache.length, length), { lengths: [length], caches: [cache] }, { layer });
      if (layer === 0) outputs.push(y);
    }
    cache.advance(length);
  }
  expect(cat(outputs, 0)).toMatchTensor(plain(...tensors));
});

test('several caches of different lengths go on together', () => {
  const lengths = [5, 1, 3];
  const sequences = lengths.map((length, i) => qkv(length + 2, i));
  const caches = lengths.map(() => new KvCache({ layers: 1, kvHeads: G, headSize: D }));
  const step = (rows: readonly number[]): Tensor => {
    const tensors = [0, 1, 2].map((which) =>
      cat(sequences.map((sequence, i) => (sequence[which] as Tensor).narrow(0, caches[i]?.length ?? 0, rows[i] ?? 0))),
    ) as [Tensor, Tensor, Tensor];
    const y = packedAttention(...tensors, { lengths: rows, caches }, { layer: 0 });
    for (const [i, cache] of caches.entries()) cache.advance(rows[i] ?? 0);
    return y;
  };
  step(lengths);
  expect(positions({ lengths: [1, 2, 0], caches })).toEqual(Float32Array.of(5, 1, 2));
  const y = step([1, 2, 0]);
  expect(y.narrow(0, 0, 1)).toMatchTensor(plain(...part(sequences[0] as Tensor[], 0, 6)).narrow(0, 5, 1));
  expect(y.narrow(0, 1, 2)).toMatchTensor(plain(...part(sequences[1] as Tensor[], 0, 3)).narrow(0, 1, 2));
});

const variants: [string, Scores][] = [
  ['a scale', { scale: 0.8 }],
  ['a window', { window: 3 }],
  ['a window of one row', { window: 1 }],
  ['a soft cap', { softcap: 0.7 }],
  ['all of them', { scale: 1.3, window: 2, softcap: 0.5 }],
];

test.each(variants)('packed sequences with %s', (_, scores) => {
  const lengths = [5, 5, 1, 3, 2];
  const tensors = qkv(16);
  const alone = lengths.map((length, i) =>
    plain(
      ...part(
        tensors,
        lengths.slice(0, i).reduce((sum, other) => sum + other, 0),
        length,
      ),
      scores,
    ),
  );
  expect(packedAttention(...tensors, { lengths }, { layer: 0, ...scores })).toMatchTensor(cat(alone, 0));
});

test.each(variants)('with a cache and %s, pieces give what all at once gives', (_, scores) => {
  for (const steps of [
    [1, 1, 1, 1, 1, 1, 1],
    [4, 1, 1, 1],
    [1, 5, 1],
    [2, 2, 3],
  ]) {
    const cache = new KvCache({ layers: 1, kvHeads: G, headSize: D, capacity: 2 });
    const tensors = qkv(7);
    const outputs = steps.map((length) => {
      const y = packedAttention(...part(tensors, cache.length, length), { lengths: [length], caches: [cache] }, { layer: 0, ...scores });
      cache.advance(length);
      return y;
    });
    expect(cat(outputs, 0)).toMatchTensor(plain(...tensors, scores));
  }
});

test('every layer of a cache may have its own number of heads', () => {
  const cache = new KvCache({ layers: 2, kvHeads: [2, 3], headSize: D, capacity: 1 });
  const generator = new Generator(5);
  for (let token = 0; token < 3; token++) {
    for (const [layer, heads] of [2, 3].entries()) {
      const keys = randn([1, heads, D], { generator });
      expect(cache.append(layer, keys, keys).keys.narrow(1, token, 1).squeeze(1)).toMatchTensor(keys.squeeze(0));
    }
    cache.advance(1);
  }
  expect(cache.fork().append(1, randn([1, 3, D]), randn([1, 3, D])).length).toBe(4);
});

test('positions start anew in each sequence', () => {
  expect(positions({ lengths: [3, 1, 2] })).toEqual(Float32Array.of(0, 1, 2, 0, 0, 1));
});

test('a fork goes its own way, and truncating forgets', () => {
  const cache = new KvCache({ layers: 1, kvHeads: G, headSize: D, capacity: 4 });
  const tensors = qkv(6);
  const run = (into: KvCache, start: number, length: number): Tensor => {
    const y = packedAttention(...part(tensors, start, length), { lengths: [length], caches: [into] }, { layer: 0 });
    into.advance(length);
    return y;
  };
  run(cache, 0, 4);
  const fork = cache.fork();
  run(cache, 5, 1);
  expect(run(fork, 4, 2)).toMatchTensor(plain(...tensors).narrow(0, 4, 2));
  cache.truncate(4);
  expect([cache.length, fork.length]).toEqual([4, 6]);
  expect(run(cache, 4, 2)).toMatchTensor(plain(...tensors).narrow(0, 4, 2));
});

test('a cache outlives the scopes that fill it and gives everything back', () => {
  const tensors = qkv(9);
  const before = liveTensors();
  const cache = new KvCache({ layers: 1, kvHeads: G, headSize: D, capacity: 1 });
  for (let start = 0; start < 9; start++) {
    using _scope = new Scope();
    packedAttention(...part(tensors, start, 1), { lengths: [1], caches: [cache] }, { layer: 0 });
    cache.advance(1);
  }
  expect(liveTensors()).toBe(before + 2);
  const fork = cache.fork();
  expect(liveTensors()).toBe(before + 4);
  fork.free();
  cache.free();
  expect(liveTensors()).toBe(before);
});
