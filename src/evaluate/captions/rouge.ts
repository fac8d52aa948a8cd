import type { CaptionPair } from './ngrams.ts';

/** How much more recall counts than precision. */
const beta = 1.2;

/**
 * ROUGE-L of each caption, from 0 to 1: the longest run of words, not necessarily neighbours, that it shares with a reference, as precision and
 * recall, the best of each over the references, as `pycocoevalcap` computes it. Lin 2004, https://aclanthology.org/W04-1013.
 */
export function rougeL(pairs: readonly CaptionPair[]): number[] {
  return pairs.map(({ candidate, references }) => {
    const shared = references.map((words) => ({ words, common: commonWords(candidate, words) }));
    const precision = Math.max(0, ...shared.map(({ common }) => common / Math.max(1, candidate.length)));
    const recall = Math.max(0, ...shared.map(({ words, common }) => common / Math.max(1, words.length)));
    return precision === 0 || recall === 0 ? 0 : ((1 + beta ** 2) * precision * recall) / (recall + beta ** 2 * precision);
  });
}

/** The length of the longest common subsequence. */
function commonWords(a: readonly string[], b: readonly string[]): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const word of a) {
    const next = [0];
    for (const [j, other] of b.entries()) next.push(word === other ? (row[j] ?? 0) + 1 : Math.max(row[j + 1] ?? 0, next[j] ?? 0));
    row = next;
  }
  return row[b.length] ?? 0;
}
