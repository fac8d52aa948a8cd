import { dirname, isAbsolute, join } from 'node:path';
import { DataError } from '../errors.ts';
import type { InputMessage } from '../processor/message.ts';
import { parseConversation } from './conversation.ts';
import { JsonRows } from './json-rows.ts';

/** One conversation of a data file. */
export interface Row {
  /** file#index, for messages. */
  readonly name: string;
  readonly id: string | undefined;
  readonly messages: readonly InputMessage[];
  readonly skippedAnswers: number;
  readonly droppedQuestions: number;
}

/** Rows by number. */
export interface RowSource {
  readonly length: number;
  row(index: number): Row;
}

/** A file of LLaVA conversations, JSON or JSONL. Rows are read and checked when they are asked for. */
export class Dataset implements RowSource, Disposable {
  readonly file: string;
  /** The folder that image paths start from. */
  readonly imageFolder: string;
  readonly #rows: JsonRows;

  private constructor(rows: JsonRows, imageFolder: string) {
    this.file = rows.file;
    this.imageFolder = imageFolder;
    this.#rows = rows;
  }

  /** Opens a data file; images are looked for beside it unless `imageFolder` is given. Throws DataError. */
  static async open(file: string, { imageFolder = dirname(file) }: { imageFolder?: string } = {}): Promise<Dataset> {
    return new Dataset(await JsonRows.open(file), imageFolder);
  }

  get length(): number {
    return this.#rows.length;
  }

  /** Row `index`, checked. Throws DataError naming it. */
  row(index: number): Row {
    const name = `${this.file}#${index}`;
    return { name, ...parseConversation(this.#rows.row(index), name, (image) => this.resolve(image)) };
  }

  /** Where an image of a row is: data: URLs and absolute paths as they are, others in the image folder. */
  resolve(image: string): string {
    return image.startsWith('data:') || isAbsolute(image) ? image : join(this.imageFolder, image);
  }

  close(): void {
    this.#rows.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** One source of a mixture: the first `limit` rows of a data file, each `repeat` times. */
export interface SourceOptions {
  readonly file: string;
  readonly imageFolder?: string;
  readonly repeat?: number;
  readonly limit?: number;
}

/** Several data files as one, one behind the other. */
export class Mixture implements RowSource, Disposable {
  readonly length: number;
  readonly #parts: readonly { readonly dataset: Dataset; readonly rows: number; readonly end: number }[];

  private constructor(parts: readonly { dataset: Dataset; rows: number; repeat: number }[]) {
    let end = 0;
    this.#parts = parts.map(({ dataset, rows, repeat }) => {
      end += rows * repeat;
      return { dataset, rows, end };
    });
    this.length = end;
  }

  /** Opens every file. Throws DataError. */
  static async open(sources: readonly SourceOptions[]): Promise<Mixture> {
    const opened: { dataset: Dataset; rows: number; repeat: number }[] = [];
    try {
      for (const { file, imageFolder, repeat = 1, limit = Number.POSITIVE_INFINITY } of sources) {
        const dataset = await Dataset.open(file, imageFolder === undefined ? {} : { imageFolder });
        opened.push({ dataset, rows: Math.min(dataset.length, limit), repeat });
      }
    } catch (error) {
      for (const { dataset } of opened) dataset.close();
      throw error;
    }
    return new Mixture(opened);
  }

  /** Row `index` of all together. Throws DataError naming its file. */
  row(index: number): Row {
    const part = this.#parts.find(({ end }) => index < end);
    if (!part || index < 0) throw new DataError(`there are ${this.length} rows, there is no row ${index}`);
    const before = this.#parts[this.#parts.indexOf(part) - 1]?.end ?? 0;
    return part.dataset.row((index - before) % part.rows);
  }

  close(): void {
    for (const { dataset } of this.#parts) dataset.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
