import { expect, test } from 'vitest';
import { groupAlike, splitGroups } from '../../../src/cli/demo/split.ts';

const item = (name: string, concept: string) => ({ name, concept });
/** A hash of 256 bits of which the first `bits` are set, shifted by `from`. */
const hash = (from: number, bits = 64): Uint8Array => Uint8Array.from({ length: 256 }, (_, i) => (i >= from && i < from + bits ? 1 : 0));

test('pictures of one concept, of one numbered name, or that look alike are one group, also by way of others', () => {
  const items = [
    item('a/lion', 'lion'),
    item('b/lion-2', 'happy lion'),
    item('c/cat', 'happy lion'),
    item('d/drawing', 'tiger'),
    item('e/photo', 'zebra'),
    item('f/apple', 'apple'),
  ];
  const hashes = [hash(0), hash(80), hash(160), hash(4), hash(40), hash(120)];
  expect(groupAlike(items, hashes).map((group) => group.map(({ concept }) => concept))).toEqual([
    ['lion', 'happy lion', 'happy lion', 'tiger'],
    ['zebra'],
    ['apple'],
  ]);
});

test('groups stay whole, every picture is in one part, and the seed decides which', () => {
  const groups = Array.from({ length: 60 }, (_, g) => Array.from({ length: 1 + (g % 3) }, (_, i) => `${g}.${i}`));
  const all = groups.flat();
  const split = splitGroups(groups, { seed: 3, test: 20, validation: 10 });
  expect([...split.train, ...split.validation, ...split.test].sort()).toEqual([...all].sort());
  for (const part of Object.values(split)) {
    const owners = new Set(part.map((name: string) => name.split('.')[0]));
    for (const name of all) if (owners.has(name.split('.')[0])) expect(part).toContain(name);
  }
  expect(split.test.length).toBeGreaterThanOrEqual(20);
  expect(split.test.length).toBeLessThan(23);
  expect(splitGroups(groups, { seed: 3, test: 20, validation: 10 })).toEqual(split);
  expect(splitGroups(groups, { seed: 4, test: 20, validation: 10 })).not.toEqual(split);
});
