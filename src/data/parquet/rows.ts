import { dirname } from 'node:path';
import { ZodError } from 'zod';
import { DataError } from '../../errors.ts';
import { parseConversation, RowError } from '../conversation.ts';
import { inLanes } from '../lanes.ts';
import { placeOf } from '../place.ts';
import { placeIn } from '../place-in.ts';
import type { Block, LeftOut, OpenRows, Part, Row, RowOptions, RowSizes } from '../rows.ts';
import { ParquetFile } from './file.ts';
import { llavaRow, shapeOf, type TableShape, textOf } from './shape.ts';

/** A row group among those of all shards. */
interface Group {
  readonly file: ParquetFile;
  readonly shape: TableShape;
  readonly number: number;
  /** The numbers of its first row in the file, and among all. */
  readonly inFile: number;
  readonly from: number;
  /** The numbers in the group of rows that stay, where ratings leave some out. */
  readonly staying: Uint32Array | undefined;
  readonly rows: number;
  readonly bytes: number;
}

type Cells = Readonly<Record<string, unknown>>;

/** Conversations of Parquet shards. A row group is read when one of its rows is asked for, and kept while there is room. */
export class ParquetRows implements OpenRows {
  readonly file: string;
  readonly length: number;
  readonly parts: readonly Part[];
  readonly leftOut: LeftOut | undefined;
  readonly #groups: readonly Group[];
  readonly #starts: readonly number[];
  readonly #options: RowOptions;
  readonly #cacheBytes: number;
  /** By numbers of groups, in the order of their last use. */
  readonly #cache = new Map<number, Promise<Cells[]>>();
  #closed = false;

  private constructor(file: string, groups: readonly Group[], { leftOut, ...options }: RowOptions & { leftOut: LeftOut | undefined }) {
    this.file = file;
    this.leftOut = leftOut;
    this.#groups = groups;
    this.#starts = groups.map(({ from }) => from);
    this.#options = options;
    this.#cacheBytes = options.cacheBytes ?? 2 ** 29;
    this.length = groups.reduce((sum, { rows }) => sum + rows, 0);
    // Half of the room is for groups that rows are drawn from, half for those that rows read ahead still come from.
    const blocks = groups.map(({ rows, bytes }): Block => ({ rows, memory: Math.min(1, (2 * bytes) / this.#cacheBytes) }));
    this.parts = [{ rows: this.length, blocks }];
  }

  /**
   * Opens shards one behind the other, and reads their ratings where there are least ones. Throws DataError for one that is no Parquet or has no column of
   * conversations, and where ratings leave nothing.
   */
  static async open(file: string, shards: readonly string[], options: RowOptions = {}): Promise<ParquetRows> {
    const opened = await inLanes(shards.length, async (i) => ParquetFile.open(shards[i] ?? ''));
    const found = opened.flatMap((shard) => {
      const shape = shapeOf(shard, options.minRatings);
      return shard.groups.map((group, number) => ({ file: shard, shape, number, inFile: group.from, rows: group.rows }));
    });
    const judged = await inLanes(found.length, async (i) => judgedBy(found[i] as (typeof found)[number]));
    const groups: Group[] = [];
    let from = 0;
    for (const [i, group] of found.entries()) {
      const staying = judged[i]?.staying;
      const rows = staying?.length ?? group.rows;
      if (rows === 0) continue;
      groups.push({ ...group, staying, from, rows, bytes: group.file.bytesOf(group.number, group.shape.columns) });
      from += rows;
    }
    const sum = (what: keyof LeftOut): number => judged.reduce((all, one) => all + (one?.leftOut[what] ?? 0), 0);
    const leftOut = options.minRatings && { rows: sum('rows'), questions: sum('questions') };
    if (from === 0 && leftOut && leftOut.rows > 0)
      throw new DataError(`${file}: all ${leftOut.rows} rows are rated too low`, { hint: 'lower minRatings for this source' });
    return new ParquetRows(file, groups, { ...options, leftOut });
  }

  async row(index: number): Promise<Row> {
    const { group, number } = this.#find(index);
    const { file, shape, from } = group;
    const cells = (await this.#read(number))[inGroup(group, index - from)] ?? {};
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
    const { group } = this.#find(index);
    return `${group.file.path}#${group.inFile + inGroup(group, index - group.from)}`;
  }

  async sizes(): Promise<RowSizes> {
    const [text, images] = [new Uint32Array(this.length), new Uint16Array(this.length)];
    await inLanes(this.#groups.length, async (i) => {
      const group = this.#groups[i] as Group;
      const { file, shape, number, from } = group;
      const all = await file.read(number, { columns: shape.columns, imageBytes: false });
      for (let at = 0; at < group.rows; at++) {
        const cells = all[inGroup(group, at)] ?? {};
        text[from + at] = JSON.stringify(textOf(cells, shape) ?? '').length;
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

/** The number in its group of a group's row that stays. */
const inGroup = ({ staying }: Group, at: number): number => staying?.[at] ?? at;

/** What the ratings of a group's rows say; nothing where they are not asked. */
async function judgedBy({
  file,
  shape: { ratings },
  number,
}: Pick<Group, 'file' | 'shape' | 'number'>): Promise<{ staying: Uint32Array; leftOut: LeftOut } | undefined> {
  if (!ratings) return undefined;
  const rows = await file.read(number, { columns: ratings.columns });
  const verdicts = rows.map((cells) => ratings.staying(cells));
  const staying = Uint32Array.from(verdicts.flatMap((verdict, at) => (verdict ? [at] : [])));
  const questions = verdicts.reduce((sum, verdict = []) => sum + verdict.filter((stays) => !stays).length, 0);
  return { staying, leftOut: { rows: rows.length - staying.length, questions } };
}
