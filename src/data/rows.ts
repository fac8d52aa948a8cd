import type { InputMessage } from '../processor/message.ts';

/** One conversation of a data set. */
export interface Row {
  /** file#index or shard.tar#key, for messages. */
  readonly name: string;
  readonly id: string | undefined;
  readonly messages: readonly InputMessage[];
  readonly skippedAnswers: number;
  readonly droppedQuestions: number;
}

/** Rows that lie together, which are best read together. */
export interface Block {
  readonly rows: number;
  /** The share of the source's memory that they fill while they are used, 0 where rows are read one at a time. */
  readonly memory: number;
}

/** Rows one behind the other that have a share of an epoch of their own. */
export interface Part {
  readonly rows: number;
  /** How often the rows come in an epoch, once unless given; half of them come by turns at 0.5. */
  readonly repeat?: number;
  /** Instead, what the part has of an epoch against the others; an epoch then has as many rows as there are. */
  readonly weight?: number | undefined;
  readonly blocks: readonly Block[];
}

/** Estimates of how long rows are, made without parsing them where that is possible. */
export interface RowSizes {
  /** Bytes of text, more or less. */
  readonly text: Uint32Array;
  /** Images and videos. */
  readonly images: Uint16Array;
}

/** Rows by number. */
export interface RowSource {
  readonly length: number;
  /** One behind the other, all rows. */
  readonly parts: readonly Part[];
  /** Row `index`, checked. Rejects with a DataError that names it. */
  row(index: number): Promise<Row>;
  /** What row `index` is called in messages, whether or not it can be read. */
  nameOf(index: number): string;
  /** Of all rows. */
  sizes(): Promise<RowSizes>;
}

/** The least rating that is wanted of a quality, by its name in the table, such as `relevance` or `image_correspondence`. */
export type MinRatings = Readonly<Record<string, number>>;

/** What ratings left out: whole rows, and questions with their answers of rows that stay. */
export interface LeftOut {
  readonly rows: number;
  readonly questions: number;
}

/** Rows of a file, of shards or of a folder. */
export interface OpenRows extends RowSource, Disposable {
  /** As it was asked for. */
  readonly file: string;
  /** With `minRatings`. */
  readonly leftOut?: LeftOut | undefined;
  close(): void;
}

/** How files of rows are opened. */
export interface RowOptions {
  /** The folder that image paths start from, that of the file unless given. */
  readonly imageFolder?: string;
  /** What captions answer, behind their image; the image alone unless given. */
  readonly prompt?: string | undefined;
  /** What is rated lower is left out: questions with their answers, and rows of which none stays. Only tables rate. */
  readonly minRatings?: MinRatings | undefined;
  /** What is kept of files that are read a stretch at a time (512 MiB). */
  readonly cacheBytes?: number;
}
