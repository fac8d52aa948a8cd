import { createHash } from 'node:crypto';

/** 128 bits that stand for a text or bytes, as 16 characters. */
export function keyOf(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest().toString('latin1', 0, 16);
}

const words = 4;

/** Which keys came before, and with which number first: an open hash table of 20 bytes a place, at most half full. */
export class Seen {
  #keys = new Uint32Array(words * 1024);
  /** The number with which each key came, plus one; 0 is a free place. */
  #numbers = new Uint32Array(1024);
  #count = 0;
  readonly #key = new Uint32Array(words);

  /** The number that this key came with first, which is remembered now where it is new: then undefined. */
  first(key: string, number: number): number | undefined {
    if (2 * this.#count >= this.#numbers.length) this.#grow();
    for (let i = 0; i < words; i++) {
      const byte = (j: number): number => key.charCodeAt(4 * i + j);
      this.#key[i] = byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24);
    }
    const place = this.#placeOf(this.#key);
    const known = this.#numbers[place] ?? 0;
    if (known > 0) return known - 1;
    this.#put(place, this.#key, number + 1);
    this.#count++;
    return undefined;
  }

  #placeOf(key: Uint32Array): number {
    const mask = this.#numbers.length - 1;
    const differs = (place: number): boolean => key.some((word, i) => this.#keys[words * place + i] !== word);
    let place = (key[0] ?? 0) & mask;
    while (this.#numbers[place] !== 0 && differs(place)) place = (place + 1) & mask;
    return place;
  }

  #put(place: number, key: Uint32Array, number: number): void {
    this.#keys.set(key, words * place);
    this.#numbers[place] = number;
  }

  #grow(): void {
    const [keys, numbers] = [this.#keys, this.#numbers];
    this.#keys = new Uint32Array(2 * keys.length);
    this.#numbers = new Uint32Array(2 * numbers.length);
    for (const [from, number] of numbers.entries()) {
      if (number === 0) continue;
      const key = keys.subarray(words * from, words * (from + 1));
      this.#put(this.#placeOf(key), key, number);
    }
  }
}
