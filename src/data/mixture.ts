import { DataError } from '../errors.ts';
import { openRows } from './open-rows.ts';
import type { Block, LeftOut, OpenRows, Part, Row, RowOptions, RowSizes, RowSource } from './rows.ts';

/** One source of a mixture: the first `limit` rows of its data. */
export interface SourceOptions extends RowOptions, Pick<Part, 'repeat' | 'weight'> {
  readonly file: string;
  readonly limit?: number;
}

interface MixturePart extends Pick<Part, 'repeat' | 'weight'> {
  readonly source: OpenRows;
  readonly rows: number;
  readonly end: number;
}

/** What sources that are read a stretch at a time keep, all of them together. */
const cacheBytes = 2 ** 29;

/** Several data sets as one, one behind the other. */
export class Mixture implements RowSource, Disposable {
  readonly length: number;
  readonly parts: readonly Part[];
  /** What ratings left out of sources that have least ones; nothing where none has. */
  readonly leftOut: LeftOut | undefined;
  readonly #parts: readonly MixturePart[];

  private constructor(parts: readonly MixturePart[]) {
    this.#parts = parts;
    this.length = parts.at(-1)?.end ?? 0;
    const leftOut = parts.flatMap(({ source }) => source.leftOut ?? []);
    const sum = (what: keyof LeftOut): number => leftOut.reduce((all, one) => all + one[what], 0);
    this.leftOut = leftOut.length > 0 ? { rows: sum('rows'), questions: sum('questions') } : undefined;
    this.parts = parts.map(({ source, rows, repeat = 1, weight }) => {
      const blocks = source.parts.flatMap((part) => part.blocks);
      return { rows, repeat, weight, blocks: firstRows(blocks, rows) };
    });
  }

  /** Opens every source. Throws DataError. */
  static async open(sources: readonly SourceOptions[]): Promise<Mixture> {
    const parts: MixturePart[] = [];
    try {
      for (const { file, repeat = 1, limit = Number.POSITIVE_INFINITY, weight, ...options } of sources) {
        const source = await openRows(file, { cacheBytes: cacheBytes / sources.length, ...options });
        const rows = Math.min(source.length, limit);
        parts.push({ source, rows, repeat, weight, end: (parts.at(-1)?.end ?? 0) + rows });
      }
    } catch (error) {
      for (const { source } of parts) source.close();
      throw error;
    }
    return new Mixture(parts);
  }

  /** Row `index` of all together. Rejects with a DataError that names it. */
  async row(index: number): Promise<Row> {
    const { source, at } = this.#find(index);
    return source.row(at);
  }

  nameOf(index: number): string {
    const { source, at } = this.#find(index);
    return source.nameOf(at);
  }

  async sizes(): Promise<RowSizes> {
    const [text, images] = [new Uint32Array(this.length), new Uint16Array(this.length)];
    for (const { source, rows, end } of this.#parts) {
      const sizes = await source.sizes();
      text.set(sizes.text.subarray(0, rows), end - rows);
      images.set(sizes.images.subarray(0, rows), end - rows);
    }
    return { text, images };
  }

  close(): void {
    for (const { source } of this.#parts) source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #find(index: number): { source: OpenRows; at: number } {
    const part = this.#parts.find(({ end }) => index < end);
    if (!part || index < 0) throw new DataError(`there are ${this.length} rows, there is no row ${index}`);
    return { source: part.source, at: index - (part.end - part.rows) };
  }
}

/** Blocks that hold so many rows, the last one cut. */
function firstRows(blocks: readonly Block[], rows: number): Block[] {
  const kept: Block[] = [];
  let left = rows;
  for (const block of blocks) {
    if (left <= 0) break;
    kept.push(left < block.rows ? { ...block, rows: left } : block);
    left -= block.rows;
  }
  return kept;
}
