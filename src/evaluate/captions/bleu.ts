import { type CaptionPair, ngrams } from './ngrams.ts';

const longest = 4;
// what keeps empty captions from dividing by nothing, as in pycocoevalcap
const [tiny, small] = [1e-15, 1e-9];

/**
 * BLEU-1 to BLEU-4 of a set of captions, from 0 to 1, with the length of the nearest reference for each, as `pycocoevalcap` computes them.
 * Papineni et al. 2002, doi:10.3115/1073083.1073135.
 */
export function bleu(pairs: readonly CaptionPair[]): number[] {
  const [right, guessed] = [new Array<number>(longest).fill(0), new Array<number>(longest).fill(0)];
  let [length, wanted] = [0, 0];
  for (const { candidate, references } of pairs) {
    const known = references.map((words) => ngrams(words, longest));
    for (const [n, counts] of ngrams(candidate, longest).entries()) {
      guessed[n] = (guessed[n] ?? 0) + Math.max(0, candidate.length - n);
      for (const [key, count] of counts) {
        const most = Math.max(0, ...known.map((reference) => reference[n]?.get(key) ?? 0));
        right[n] = (right[n] ?? 0) + Math.min(count, most);
      }
    }
    length += candidate.length;
    wanted += nearest(candidate.length, references);
  }
  const ratio = (length + tiny) / (wanted + small);
  const brevity = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1;
  let product = 1;
  return right.map((count, n) => {
    product *= (count + tiny) / ((guessed[n] ?? 0) + small);
    return product ** (1 / (n + 1)) * brevity;
  });
}

/** The reference length that differs least, the shorter of two. */
function nearest(length: number, references: CaptionPair['references']): number {
  const lengths = references.map((words) => words.length).sort((a, b) => Math.abs(a - length) - Math.abs(b - length) || a - b);
  return lengths[0] ?? 0;
}
