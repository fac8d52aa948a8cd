/**
 * A small random number generator for orders of data: 32-bit words of a Weyl sequence, mixed (SplitMix32 as in Java's SplittableRandom, Steele et al. 2014).
 * The same seed gives the same numbers on every machine.
 */
export class Random {
  /** All that it remembers; may be saved and set again. */
  state: number;

  /** Streams with other names are independent. */
  constructor(seed: number, stream = 0) {
    this.state = mix(mix(seed >>> 0) + Math.imul(stream, 0x9e3779b9) + Math.trunc(seed / 2 ** 32));
  }

  /** A whole number from 0 until before 2³². */
  next(): number {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    return mix(this.state);
  }

  /** A whole number from 0 until before `count`, at most 2³², each as likely. */
  below(count: number): number {
    const limit = 2 ** 32 - (2 ** 32 % count);
    for (;;) {
      const number = this.next();
      if (number < limit) return number % count;
    }
  }

  /** Puts the items in random order, in place (Fisher and Yates). */
  shuffle<T extends { [index: number]: unknown; readonly length: number }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}

function mix(word: number): number {
  let z = word >>> 0;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}
