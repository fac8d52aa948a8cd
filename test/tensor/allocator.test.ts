import { expect, test } from 'vitest';
import { full } from '../../src/tensor/create.ts';
import { keepFreedMemory, memory } from '../../src/tensor/device.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

test('a tensor goes where one of its size was freed', () => {
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

test('tensors of all sizes hold what they should, and one larger than the memory is refused', () => {
  const sums = [1, 63, 64, 65, 4096, 1 << 20].map((count) => full([count], 2).sum().item());
  expect(sums).toEqual([2, 126, 128, 130, 8192, 1 << 21]);
  expect(() => full([2 ** 46], 1)).toThrow(/no memory for \d+ bytes/);
});
