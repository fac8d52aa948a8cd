/** How often each run of 1 to `most` words stands in a caption: a map for each length, the words joined by spaces. */
export function ngrams(words: readonly string[], most: number): Map<string, number>[] {
  return Array.from({ length: most }, (_, index) => {
    const counts = new Map<string, number>();
    for (let start = 0; start + index < words.length; start++) {
      const key = words.slice(start, start + index + 1).join(' ');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts;
  });
}

/** A caption to be scored, and what people wrote about the same picture: all as words. */
export interface CaptionPair {
  readonly candidate: readonly string[];
  readonly references: readonly (readonly string[])[];
}
