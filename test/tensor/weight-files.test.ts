import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openWeights, writeWeights } from '../../src/tensor/weight-files.ts';
import '../matchers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-shards-'));
afterAll(() => rmSync(root, { recursive: true }));

const generator = new Generator(1);
const tensors = {
  b: randn([10], { generator }),
  a: randn([30], { generator }),
  c: randn([100], { generator }),
  d: randn([5], { generator }),
};

test('weights beyond the size of a shard are written in several, with an index', () => {
  writeWeights(root, Object.entries(tensors), { maxShardBytes: 160 });
  const index = 'model.safetensors.index.json';
  const [first, second, third] = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
  expect(readdirSync(root).sort()).toEqual([first, second, third, index]);
  expect(JSON.parse(readFileSync(join(root, index), 'utf8'))).toEqual({
    metadata: { total_parameters: 145, total_size: 580 },
    weight_map: { a: first, b: first, c: second, d: third },
  });
  const read = openWeights(root);
  expect([...read.names].sort()).toEqual(['a', 'b', 'c', 'd']);
  for (const [name, expected] of Object.entries(tensors)) expect(read.tensor(name), name).toMatchTensor(expected, { atol: 0 });
});

test('weights that fit are one file', () => {
  const folder = mkdtempSync(join(root, 'one-'));
  writeWeights(folder, Object.entries(tensors), { maxShardBytes: 580 });
  expect(readdirSync(folder)).toEqual(['model.safetensors']);
});
