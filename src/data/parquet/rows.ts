import { dirname } from 'node:path';
import { ZodError } from 'zod';
import { DataError } from '../../errors.ts';
import { parseConversation, RowError } from '../conversation.ts';
import { inLanes } from '../lanes.ts';
import { placeOf } from '../place.ts';
import { placeIn } from '../place-in.ts';
import type { Block, OpenRows, Part, Row, RowOptions, RowSizes } from '../rows.ts';
import { ParquetFile } from './file.ts';
import { llavaRow, shapeOf, type TableShape } from './shape.ts';

/** A row group among those of all shards. */
interface Group {
  readonly file: ParquetFile;
  readonly shape: TableShape;
  readonly number: number;
  /** The numbers of its first row in the file, and among all. */
  readonly inFile: number;
  readonly from: number;
  readonly rows: number;
  readonly bytes: number;
}

type Cells = Readonly<Record<string, unknown>>;

/** Conversations of Parquet shards. A row group is read when one of its rows is asked for, and kept while there is room. */
export class ParquetRows implements OpenRows {
  readonly file: string;
  readonly length: number;
  readonly parts: readonly Part[];
  readonly #groups: readonly Group[];
  readonly #starts: readonly number[];
  readonly #options: RowOptions;
  readonly #cacheBytes: number;
  /** By numbers of groups, in the order of their last use. */
  readonly #cache = new Map<number, Promise<Cells[]>>();
  #closed = false;

  private constructor(file: string, groups: readonly Group[], options: RowOptions) {
    this.file = file;
    this.#groups = groups;
    this.#starts = groups.map(({ from }) => from);
    this.#options = options;
    this.#cacheBytes = options.cacheBytes ?? 2 ** 29;
    this.length = groups.reduce((sum, { rows }) => sum + rows, 0);
    // Half of the room is for groups that rows are drawn from, half for those that rows read ahead still come from.
    const blocks = groups.map(({ rows, bytes }): Block => ({ rows, memory: Math.min(1, (2 * bytes) / this.#cacheBytes) }));
    this.parts = [{ rows: this.length, blocks }];
  }

  /** Opens shards one behind the other. Throws DataError for one that is no Parquet, or has no column of conversations. */
  static async open(file: string, shards: readonly string[], options: RowOptions = {}): Promise<ParquetRows> {
    const opened = await inLanes(shards.length, async (i) => ParquetFile.open(shards[i] ?? ''));
    const groups: Group[] = [];
    let from = 0;
    for (const shard of opened) {
      const shape = shapeOf(shard);
      for (const [number, { from: inFile, rows }] of shard.groups.entries()) {
        if (rows === 0) continue;
        groups.push({ file: shard, shape, number, inFile, from, rows, bytes: shard.bytesOf(number, shape.columns) });
        from += rows;
      }
    }
    return new ParquetRows(file, groups, options);
  }

  async row(index: number): Promise<Row> {
    const { group, number } = this.#find(index);
    const { file, shape, from } = group;
    const cells = (await this.#read(number))[index - from] ?? {};
    const name = this.nameOf(index);
    const { imageFolder = dirname(file.path), prompt } = this.#options;
    const resolve = (path: string): string => placeOf(path, imageFolder);
    try {
      const { row, images } = llavaRow(cells, shape, { prompt, resolve });
      return { name, ...parseConversation(row, name, { resolve, images }) };
    } catch (cause) {
      if (!(cause instanceof ZodError)) throw cause;
      const [issue] = cause.issues;
      throw new RowError('broken row', `${name}: ${[shape.text, ...(issue?.path ?? [])].join('.')}: ${issue?.message}`, { cause });
    }
  }

  nameOf(index: number): string {
    const { file, inFile, from } = this.#find(index).group;
    return `${file.path}#${index - from + inFile}`;
  }

  async sizes(): Promise<RowSizes> {
    const [text, images] = [new Uint32Array(this.length), new Uint16Array(this.length)];
    await inLanes(this.#groups.length, async (i) => {
      const { file, shape, number, from } = this.#groups[i] as Group;
      for (const [at, cells] of (await file.read(number, { columns: shape.columns, imageBytes: false })).entries()) {
        text[from + at] = JSON.stringify(cells[shape.text] ?? '').length;
        images[from + at] = shape.images === undefined ? 0 : [cells[shape.images]].flat().filter((image) => image !== undefined).length;
      }
    });
    return { text, images };
  }

  close(): void {
    this.#closed = true;
    this.#cache.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #find(index: number): { group: Group; number: number } {
    const number = placeIn(this.#starts, index);
    const group = this.#groups[number];
    if (!group || !(index >= 0 && index < this.length))
      throw new DataError(`${this.file} has ${this.length} rows, there is no row ${index}`);
    return { group, number };
  }

  #read(number: number): Promise<Cells[]> {
    if (this.#closed) throw new DataError(`${this.file} was closed`);
    const { file, shape, number: inFile } = this.#groups[number] as Group;
    const rows = this.#cache.get(number) ?? file.read(inFile, shape);
    this.#cache.delete(number);
    this.#cache.set(number, rows);
    this.#trim();
    return rows;
  }

  /** Lets go of the groups that were not used for the longest, until what is left has room. */
  #trim(): void {
    let bytes = 0;
    for (const number of this.#cache.keys()) bytes += this.#groups[number]?.bytes ?? 0;
    for (const number of this.#cache.keys()) {
      if (bytes <= this.#cacheBytes || this.#cache.size === 1) return;
      this.#cache.delete(number);
      bytes -= this.#groups[number]?.bytes ?? 0;
    }
  }
}
