/** How numbers are spread. */
export interface Spread {
  readonly count: number;
  readonly total: number;
  readonly min: number;
  readonly mean: number;
  readonly median: number;
  /** 95 of 100 are at most this. */
  readonly p95: number;
  readonly max: number;
}

/** Counts how often each number occurs, so that millions of lengths take the room of the few thousand that differ. */
export class Histogram {
  readonly #times = new Map<number, number>();

  add(value: number, times = 1): void {
    this.#times.set(value, (this.#times.get(value) ?? 0) + times);
  }

  /** Each number with how often it occurs. */
  get entries(): [value: number, times: number][] {
    return [...this.#times];
  }

  /** Undefined when there are no numbers. */
  get spread(): Spread | undefined {
    const sorted = this.entries.sort(([a], [b]) => a - b);
    const [min, max] = [sorted[0]?.[0], sorted.at(-1)?.[0]];
    if (min === undefined || max === undefined) return undefined;
    const count = sorted.reduce((sum, [, times]) => sum + times, 0);
    const total = sorted.reduce((sum, [value, times]) => sum + value * times, 0);
    const rank = (share: number): number => {
      let passed = 0;
      for (const [value, times] of sorted) {
        passed += times;
        if (passed >= share * count) return value;
      }
      return max;
    };
    return { count, total, min, mean: total / count, median: rank(0.5), p95: rank(0.95), max };
  }
}
