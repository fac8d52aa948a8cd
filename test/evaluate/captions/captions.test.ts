import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bleu, type CaptionPair, captionTokens, cider, rougeL } from '../../../src/evaluate/captions/index.ts';

interface Expected {
  readonly pairs: readonly { readonly candidate: string; readonly references: readonly string[] }[];
  readonly cider: readonly number[];
  readonly bleu: readonly number[];
  readonly rouge: readonly number[];
}

const { sets, tokens }: { sets: Expected[]; tokens: [string, string][] } = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../reference/captions.json'), 'utf8'),
);
const pairsOf = ({ pairs }: Expected): CaptionPair[] =>
  pairs.map(({ candidate, references }) => ({ candidate: candidate.split(' '), references: references.map((text) => text.split(' ')) }));

test.each(sets.map((set) => [set.pairs.length, set] as const))('%i captions have the scores of pycocoevalcap', (_, set) => {
  const pairs = pairsOf(set);
  for (const [name, own, theirs] of [
    ['CIDEr', cider(pairs), set.cider],
    ['BLEU', bleu(pairs), set.bleu],
    ['ROUGE-L', rougeL(pairs), set.rouge],
  ] as const) {
    expect(own).toHaveLength(theirs.length);
    for (const [i, value] of own.entries()) expect(Math.abs(value - (theirs[i] ?? Number.NaN)), `${name} ${i}`).toBeLessThan(1e-9);
  }
});

test('nothing said scores nothing', () => {
  const pairs = [
    { candidate: [], references: [['a', 'dog']] },
    { candidate: ['a', 'cat'], references: [['a', 'cat']] },
  ];
  expect(cider(pairs)[0]).toBe(0);
  expect(rougeL(pairs)).toEqual([0, 1]);
  expect(bleu([{ candidate: [], references: [['a', 'dog']] }])[3]).toBeLessThan(1e-6);
});

test.each(tokens)('%j has the words of the Penn Treebank', (caption, words) => expect(captionTokens(caption).join(' ')).toBe(words));
