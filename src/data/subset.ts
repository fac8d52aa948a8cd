import { ConfigError } from '../errors.ts';
import type { Part, Row, RowSizes, RowSource } from './rows.ts';
import { Sampler } from './sampler.ts';

/** Some rows of a source, by number, in its order. */
class Subset implements RowSource {
  readonly parts: readonly Part[];
  readonly #rows: RowSource;
  readonly #indices: Uint32Array;

  constructor(rows: RowSource, indices: Uint32Array) {
    this.#rows = rows;
    this.#indices = indices;
    let [end, at] = [0, 0];
    this.parts = rows.parts.map(({ blocks, ...part }) => {
      const [before, kept] = [
        at,
        blocks.map((block) => {
          const from = at;
          end += block.rows;
          while (at < indices.length && (indices[at] ?? 0) < end) at++;
          return { ...block, rows: at - from };
        }),
      ];
      return { ...part, rows: at - before, blocks: kept };
    });
  }

  get length(): number {
    return this.#indices.length;
  }

  row(index: number): Promise<Row> {
    return this.#rows.row(this.#indices[index] ?? Number.NaN);
  }

  nameOf(index: number): string {
    return this.#rows.nameOf(this.#indices[index] ?? Number.NaN);
  }

  async sizes(): Promise<RowSizes> {
    const { text, images } = await this.#rows.sizes();
    return { text: this.#indices.map((i) => text[i] ?? 0), images: Uint16Array.from(this.#indices, (i) => images[i] ?? 0) };
  }
}

// Apart from the seed that orders the epochs.
const otherSeed = 2 ** 40;

/**
 * Takes `count` rows out, chosen by the seed; both parts keep the order of the file. Of rows that are read in blocks they come from few, so that validating reads little. Throws
 * ConfigError when none would be left.
 */
export function holdOut(rows: RowSource, count: number, seed: number): { rest: RowSource; heldOut: RowSource } {
  if (count >= rows.length) throw new ConfigError(`${count} rows cannot be held out of ${rows.length}`, { hint: 'lower validation.rows' });
  const parts = rows.parts.map((part) => ({ rows: part.rows, blocks: part.blocks }));
  const heldOut = new Sampler({ parts, batchSize: count, seed: seed + otherSeed }).next().sort();
  const out = new Set(heldOut);
  const rest = Uint32Array.from({ length: rows.length }, (_, i) => i).filter((row) => !out.has(row));
  return { rest: new Subset(rows, rest), heldOut: new Subset(rows, heldOut) };
}
