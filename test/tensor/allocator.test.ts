import { expect, test } from 'vitest';
import { full } from '../../src/tensor/create.ts';
import { keepFreedMemory, memory, trimMemory } from '../../src/tensor/device.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

test('a tensor goes where one of its size was freed', () => {
  using _scope = new Scope();
  keepFreedMemory(true);
  try {
    const fill = (count: number): Tensor[] => Array.from({ length: count }, () => full([1 << 18], 1));
    const tensors = fill(100);
    const before = memory().rssBytes;
    for (const [i, tensor] of tensors.entries()) if (i % 2 === 1) tensor.free();
    fill(50);
    expect(memory().rssBytes - before).toBeLessThan(10 << 20);
  } finally {
    keepFreedMemory(false);
  }
});

test('a large tensor takes the place of another, or the room of smaller ones, and what is no longer kept goes back', () => {
  using _scope = new Scope();
  const megabytes = (count: number): Tensor => full([count << 18], 1);
  trimMemory();
  const before = memory().rssBytes;
  const grown = (): number => Math.round((memory().rssBytes - before) / (64 << 20));
  keepFreedMemory(true);
  try {
    megabytes(128).free();
    expect(grown()).toBe(2);
    const other = megabytes(100);
    expect(grown()).toBe(2);
    other.free();
    const larger = megabytes(256);
    expect(grown()).toBe(4);
    larger.free();
    expect(grown()).toBe(4);
  } finally {
    keepFreedMemory(false);
  }
  expect(grown()).toBeCloseTo(0);
});

test('tensors of all sizes hold what they should, and one larger than the memory is refused', () => {
  const sums = [1, 63, 64, 65, 4096, 1 << 20, 1 << 23].map((count) => full([count], 2).sum().item());
  expect(sums).toEqual([2, 126, 128, 130, 8192, 1 << 21, 1 << 24]);
  expect(() => full([2 ** 46], 1)).toThrow(/no memory for \d+ bytes/);
});
