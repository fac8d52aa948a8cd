import { ConfigError } from '../errors.ts';
import type { Row, RowSource } from './dataset.ts';
import { Random } from './random.ts';

/** Some rows of a source, by number. */
class Subset implements RowSource {
  readonly #rows: RowSource;
  readonly #indices: Uint32Array;

  constructor(rows: RowSource, indices: Uint32Array) {
    this.#rows = rows;
    this.#indices = indices;
  }

  get length(): number {
    return this.#indices.length;
  }

  row(index: number): Row {
    return this.#rows.row(this.#indices[index] ?? Number.NaN);
  }
}

// Apart from the streams that order the epochs.
const stream = 0x7fffffff;

/** Takes `count` rows out, chosen by the seed; both parts keep the order of the file. Throws ConfigError when none would be left. */
export function holdOut(rows: RowSource, count: number, seed: number): { rest: RowSource; heldOut: RowSource } {
  if (count >= rows.length) throw new ConfigError(`${count} rows cannot be held out of ${rows.length}`);
  const order = new Random(seed, stream).shuffle(Uint32Array.from({ length: rows.length }, (_, i) => i));
  const [heldOut, rest] = [order.slice(0, count).sort(), order.slice(count).sort()];
  return { rest: new Subset(rows, rest), heldOut: new Subset(rows, heldOut) };
}
