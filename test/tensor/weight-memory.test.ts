import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { empty, full, randn } from '../../src/tensor/create.ts';
import { memory as memoryOf } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { WeightMemory } from '../../src/tensor/weight-memory.ts';
import '../matchers.ts';

const residentBytes = (): number => memoryOf().rssBytes;
const random = (shape: readonly number[], seed: number) => randn(shape, { generator: new Generator(seed) });

test('tensors placed in it are copies that outlive the memory and each other', () => {
  const [a, b] = [random([700, 1000], 1), random([3], 2).cast('bfloat16')];
  const memory = new WeightMemory([a, b]);
  const [first, second] = [memory.place(a), memory.place(b)];
  const [expected, alsoExpected] = [a.clone(), b.clone()];
  a.zero_();
  expect(first).toMatchTensor(expected, { atol: 0 });
  first.free();
  expect(second.dtype).toBe('bfloat16');
  expect(second).toMatchTensor(alsoExpected, { atol: 0 });
});

test('a tensor that is there already stays where it is', () => {
  const memory = new WeightMemory([{ shape: [4], dtype: 'float32' }]);
  const placed = memory.place(random([4], 1));
  expect(memory.place(placed.fill_(7))).toMatchTensor([7, 7, 7, 7]);
});

test('a file is read into it at once, and stays as it was read', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tinyllava-'));
  const path = join(folder, 'weights.safetensors');
  const weights = { a: random([5, 7], 1), empty: empty([0, 3]), b: random([6000, 1000], 2) };
  try {
    writeSafetensors(path, Object.entries(weights));
    const file = openSafetensors(path);
    const memory = new WeightMemory(Object.values(weights));
    const read = new Map(file.names.map((name) => [name, file.tensor(name, memory)]));
    writeSafetensors(path, [['a', random([5, 7], 3)]]);
    for (const [name, expected] of Object.entries(weights)) expect(read.get(name), name).toMatchTensor(expected, { atol: 0 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('more than it has room for is refused', () => {
  using _scope = new Scope();
  const memory = new WeightMemory([{ shape: [4], dtype: 'float32' }]);
  expect(() => memory.place(random([1 << 20], 1))).toThrow('the pages are full');
});

test('what was let go takes nothing more, and keeps what is in it until that is freed', () => {
  const memory = new WeightMemory([{ shape: [4], dtype: 'float32' }]);
  const kept = memory.place(random([4], 1).fill_(3));
  memory.letGo();
  expect(() => memory.place(random([1], 2))).toThrow('the pages were let go');
  expect(kept).toMatchTensor([3, 3, 3, 3]);
  kept.free();
});

test('what is freed in the middle goes back to the system, and what lies beside it stays', () => {
  using _scope = new Scope();
  const [bytes, count] = [64 << 20, 16 << 20];
  const weights = [1, 2, 3].map((value) => full([count], value));
  const memory = new WeightMemory(weights);
  const [first, middle, last] = weights.map((weight) => memory.place(weight)) as [Tensor, Tensor, Tensor];
  memory.letGo();
  const before = residentBytes();
  middle.free();
  expect(before - residentBytes()).toBeGreaterThan(0.9 * bytes);
  expect(first.sum().item()).toBe(count);
  expect(last.sum().item()).toBe(3 * count);
});
