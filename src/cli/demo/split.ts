import { Random } from '../../data/random.ts';
import type { Stamp } from './stamps.ts';

/** Which pictures are learned from, looked at while the recipe was made, and looked at once. */
export interface Split<Item> {
  readonly train: readonly Item[];
  readonly validation: readonly Item[];
  readonly test: readonly Item[];
}

/** Differing bits of two hashes of 256 up to which two pictures are the same drawing. */
const alike = 16;

function distance(a: Uint8Array, b: Uint8Array): number {
  let bits = 0;
  for (const [i, bit] of a.entries()) if (bit !== b[i]) bits++;
  return bits;
}

/** `spider` of `animals/insects/cartoon/spider2`: files that differ in a number behind the name show variants of one thing. */
const stem = (name: string): string =>
  name
    .slice(name.lastIndexOf('/') + 1)
    .toLowerCase()
    .replace(/[-_ ]?\d+$/, '');

/** Pictures that show the same: of one concept, of one name but for a number behind it, or that look alike. Groups in the order of their first picture. */
export function groupAlike<Item extends Pick<Stamp, 'name' | 'concept'>>(items: readonly Item[], hashes: readonly Uint8Array[]): Item[][] {
  const parent = items.map((_, i) => i);
  const root = (i: number): number => {
    let at = i;
    while (parent[at] !== at) at = parent[at] ?? at;
    return at;
  };
  const join = (a: number, b: number): void => {
    const [x, y] = [root(a), root(b)];
    parent[Math.max(x, y)] = Math.min(x, y);
  };
  const first = new Map<string, number>();
  for (const [i, { name, concept }] of items.entries()) {
    for (const key of [`concept ${concept}`, `stem ${stem(name)}`]) {
      const before = first.get(key);
      if (before === undefined) first.set(key, i);
      else join(before, i);
    }
    for (let j = 0; j < i; j++) if (distance(hashes[i] ?? new Uint8Array(), hashes[j] ?? new Uint8Array()) <= alike) join(j, i);
  }
  const groups = new Map<number, Item[]>();
  for (const [i, item] of items.entries()) groups.set(root(i), [...(groups.get(root(i)) ?? []), item]);
  return [...groups.values()];
}

/** Deals whole groups out by the seed until test and validation have about so many pictures. */
export function splitGroups<Item>(
  groups: readonly Item[][],
  { seed, test, validation }: { readonly seed: number; readonly test: number; readonly validation: number },
): Split<Item> {
  const parts: Record<keyof Split<Item>, Item[]> = { train: [], validation: [], test: [] };
  for (const group of new Random(seed).shuffle([...groups])) {
    const part = parts.test.length < test ? 'test' : parts.validation.length < validation ? 'validation' : 'train';
    parts[part].push(...group);
  }
  return parts;
}
