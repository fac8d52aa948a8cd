import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { full } from '../../src/tensor/create.ts';
import { keepFreedMemory, memory } from '../../src/tensor/device.ts';
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
  // In a process of its own, whose allocator no other test has told to keep what is freed.
  const argv = ['--import', 'tsx', join(import.meta.dirname, 'large.ts')];
  const found = JSON.parse(spawnSync(process.execPath, argv, { encoding: 'utf8' }).stdout) as Record<string, number>;
  expect(found).toEqual({ freed: 2, other: 2, larger: 4, freedToo: 4, trimmed: 0, again: 2, noLongerKept: 0 });
});

test('tensors of all sizes hold what they should, and one larger than the memory is refused', () => {
  const sums = [1, 63, 64, 65, 4096, 1 << 20, 1 << 23].map((count) => full([count], 2).sum().item());
  expect(sums).toEqual([2, 126, 128, 130, 8192, 1 << 21, 1 << 24]);
  expect(() => full([2 ** 46], 1)).toThrow(/no memory for \d+ bytes/);
});
