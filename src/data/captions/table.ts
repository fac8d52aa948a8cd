import { dirname } from 'node:path';
import { DataError } from '../../errors.ts';
import { captioned, captionNames, imageNames } from '../caption.ts';
import { parseConversation, RowError } from '../conversation.ts';
import { placeOf } from '../place.ts';
import type { OpenRows, Part, Row, RowOptions, RowSizes } from '../rows.ts';
import { tableRecords } from './records.ts';

/** Images with captions of a CSV or TSV file, all of which is kept in memory. */
export class CaptionTable implements OpenRows {
  readonly file: string;
  readonly #images: readonly string[];
  readonly #captions: readonly string[];
  readonly #options: RowOptions;

  private constructor(file: string, cells: { images: readonly string[]; captions: readonly string[] }, options: RowOptions) {
    this.file = file;
    this.#images = cells.images;
    this.#captions = cells.captions;
    this.#options = options;
  }

  /** Throws DataError for a file that cannot be read, has no such columns, or rows with too few cells. */
  static async open(file: string, options: RowOptions = {}): Promise<CaptionTable> {
    const cells = { images: [] as string[], captions: [] as string[] };
    let columns: { image: number; caption: number } | undefined;
    try {
      for await (const record of tableRecords(file, file.toLowerCase().endsWith('.tsv') ? '\t' : ',')) {
        if (!columns) {
          columns = columnsOf(file, record);
          continue;
        }
        cells.images.push(record[columns.image] ?? '');
        cells.captions.push(record[columns.caption] ?? '');
      }
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      throw new DataError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
    }
    return new CaptionTable(file, cells, options);
  }

  get length(): number {
    return this.#images.length;
  }

  get parts(): readonly Part[] {
    return [{ rows: this.length, blocks: [{ rows: this.length, memory: 0 }] }];
  }

  async row(index: number): Promise<Row> {
    const name = this.nameOf(index);
    const [image, caption] = [this.#images[index], this.#captions[index]];
    if (image === undefined || caption === undefined) throw new DataError(`${this.file} has ${this.length} rows, there is no row ${index}`);
    if (image === '' || caption === '') throw new RowError('broken row', `${name} has no ${image === '' ? 'image' : 'caption'}`, {});
    const { imageFolder = dirname(this.file), prompt } = this.#options;
    const resolve = (path: string): string => placeOf(path, imageFolder);
    return { name, ...parseConversation({ image, conversations: captioned(caption, prompt) }, name, { resolve }) };
  }

  nameOf(index: number): string {
    return `${this.file}#${index}`;
  }

  async sizes(): Promise<RowSizes> {
    return { text: Uint32Array.from(this.#captions, ({ length }) => length), images: new Uint16Array(this.length).fill(1) };
  }

  close(): void {}

  [Symbol.dispose](): void {}
}

function columnsOf(file: string, header: readonly string[]): { image: number; caption: number } {
  const names = header.map((name) => name.replace('\uFEFF', '').trim());
  const find = (known: readonly string[]): number => names.indexOf(known.find((name) => names.includes(name)) ?? '');
  const [image, caption] = [find(imageNames), find(captionNames)];
  if (image >= 0 && caption >= 0) return { image, caption };
  throw new DataError(
    `${file} has the columns ${names.join(', ')}, none of which is ${(image < 0 ? imageNames : captionNames).join(' or ')}`,
    {
      hint: `name the columns in the first row: ${imageNames.join(' or ')}, and ${captionNames.join(' or ')}`,
    },
  );
}
