import { dirname } from 'node:path';
import { withConversations } from './caption.ts';
import { parseConversation } from './conversation.ts';
import { type JsonLayout, JsonRows } from './json-rows.ts';
import { placeOf } from './place.ts';
import type { OpenRows, Part, Row, RowOptions, RowSizes } from './rows.ts';

/** Rows of JSON are read one at a time, and lie in the order of the file. */
const blockRows = 1000;

/** A file of LLaVA conversations or of images with captions, JSON or JSONL. Rows are read and checked when they are asked for. */
export class Dataset implements OpenRows {
  readonly file: string;
  /** The folder that image paths start from. */
  readonly imageFolder: string;
  readonly #rows: JsonRows;
  readonly #prompt: string | undefined;

  private constructor(rows: JsonRows, imageFolder: string, prompt: string | undefined) {
    this.file = rows.file;
    this.imageFolder = imageFolder;
    this.#rows = rows;
    this.#prompt = prompt;
  }

  /** Opens a data file; images are looked for beside it unless `imageFolder` is given. Throws DataError. */
  static async open(file: string, { imageFolder = dirname(file), prompt }: RowOptions = {}): Promise<Dataset> {
    return new Dataset(await JsonRows.open(file), imageFolder, prompt);
  }

  get length(): number {
    return this.#rows.length;
  }

  get parts(): readonly Part[] {
    const count = Math.ceil(this.length / blockRows);
    const blocks = Array.from({ length: count }, (_, i) => ({ rows: Math.min(blockRows, this.length - i * blockRows), memory: 0 }));
    return [{ rows: this.length, blocks }];
  }

  /** Row `index`, checked. Rejects with a DataError that names it. */
  async row(index: number): Promise<Row> {
    const name = this.nameOf(index);
    const row = withConversations(this.#rows.row(index), this.#prompt);
    return { name, ...parseConversation(row, name, { resolve: (file) => this.resolve(file) }) };
  }

  nameOf(index: number): string {
    return `${this.file}#${index}`;
  }

  sizes(): Promise<RowSizes> {
    return this.#rows.sizes();
  }

  /** Where an image of a row is: data: URLs and absolute paths as they are, others in the image folder. */
  resolve(image: string): string {
    return placeOf(image, this.imageFolder);
  }

  /** Row `index` as it stands in the file. */
  bytes(index: number): Buffer {
    return this.#rows.bytes(index);
  }

  /** Whether rows stand in an array, or one a line. */
  get layout(): JsonLayout {
    return this.#rows.layout;
  }

  close(): void {
    this.#rows.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
