import { type CaptionPair, ngrams } from './ngrams.ts';

const longest = 4;
/** Width of the penalty for captions that are longer or shorter than a reference, in words. */
const sigma = 6;

interface Weighted {
  /** For each length of n-gram. */
  readonly weights: readonly ReadonlyMap<string, number>[];
  readonly norms: readonly number[];
  /** Pairs of neighbouring words, by which lengths are compared. */
  readonly length: number;
}

/**
 * CIDEr-D of each caption, from 0 to 10: how like it is to its references in n-grams weighted by how rare they are among all references of the
 * set, as `pycocoevalcap` computes it. The scores of a set of one picture are 0. Vedantam et al. 2015, arXiv:1411.5726.
 */
export function cider(pairs: readonly CaptionPair[]): number[] {
  const pictures = new Map<string, number>();
  for (const { references } of pairs) {
    const seen = new Set(references.flatMap((words) => ngrams(words, longest).flatMap((counts) => [...counts.keys()])));
    for (const key of seen) pictures.set(key, (pictures.get(key) ?? 0) + 1);
  }
  const rarity = (key: string): number => Math.log(pairs.length) - Math.log(Math.max(1, pictures.get(key) ?? 0));
  const weigh = (words: readonly string[]): Weighted => {
    const weights = ngrams(words, longest).map((counts) => new Map([...counts].map(([key, count]) => [key, count * rarity(key)] as const)));
    const norms = weights.map((vector) => Math.sqrt([...vector.values()].reduce((sum, weight) => sum + weight ** 2, 0)));
    return { weights, norms, length: Math.max(0, words.length - 1) };
  };
  return pairs.map(({ candidate, references }) => {
    const own = weigh(candidate);
    const total = references.reduce((sum, words) => sum + likeness(own, weigh(words)), 0);
    return references.length === 0 ? 0 : (10 * total) / references.length;
  });
}

/** The mean over the lengths of n-grams of the clipped cosine, less what the difference in length costs. */
function likeness(own: Weighted, other: Weighted): number {
  const penalty = Math.exp(-((own.length - other.length) ** 2) / (2 * sigma ** 2));
  const cosines = own.weights.map((vector, n) => {
    let product = 0;
    for (const [key, weight] of vector) {
      const theirs = other.weights[n]?.get(key) ?? 0;
      product += Math.min(weight, theirs) * theirs;
    }
    const norms = (own.norms[n] ?? 0) * (other.norms[n] ?? 0);
    return norms === 0 ? product : product / norms;
  });
  return (penalty * cosines.reduce((sum, cosine) => sum + cosine, 0)) / longest;
}
