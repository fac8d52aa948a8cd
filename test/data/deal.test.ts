import { expect, test } from 'vitest';
import { deal } from '../../src/data/deal.ts';
import { Random } from '../../src/data/random.ts';

const rows = Uint32Array.from({ length: 128 }, (_, i) => 1000 + i);

/** Lengths of rows as those of LLaVA's instructions are spread: images of 729 tokens, and log-normal text. */
function lengths(seed: number): (row: number) => number {
  const random = new Random(seed);
  const uniform = (): number => random.next() / 2 ** 32;
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const drawn = Array.from(rows, () => (uniform() < 0.06 ? 0 : 729) + 200 * Math.exp(0.7 * normal()));
  return (row) => drawn[row - 1000] ?? 0;
}

const hands = (size: number, lengthOf?: (row: number) => number): Uint32Array[] =>
  Array.from({ length: size }, (_, rank) => deal(rows, { rank, size, lengthOf }));

/** What the rank with most has to do over the mean. */
function waiting(dealt: readonly Uint32Array[], lengthOf: (row: number) => number): number {
  const sums = dealt.map((own) => own.reduce((sum, row) => sum + lengthOf(row), 0));
  return (Math.max(...sums) * sums.length) / sums.reduce((sum, own) => sum + own);
}

test.each([1, 2, 3, 8, 100, 200])('%i ranks have every row of a step once, and as many each', (size) => {
  for (const lengthOf of [undefined, lengths(1)]) {
    const dealt = hands(size, lengthOf);
    expect(dealt.flatMap((own) => [...own]).sort((a, b) => a - b)).toEqual([...rows]);
    const counts = dealt.map((own) => own.length);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThan(2);
  }
});

test.each([8, 16, 32])('the longest of %i shares is a third or less as far above the mean as when rows go round in turn', (size) => {
  const lengthOf = lengths(2);
  const [dealt, inTurn] = [waiting(hands(size, lengthOf), lengthOf), waiting(hands(size), lengthOf)];
  expect(dealt - 1).toBeLessThan((inTurn - 1) / 3);
});

test('all ranks begin with their longest rows', () => {
  const lengthOf = lengths(3);
  const dealt = hands(8, lengthOf);
  for (const own of dealt) expect([...own].map(lengthOf)).toEqual([...own].map(lengthOf).sort((a, b) => b - a));
});
