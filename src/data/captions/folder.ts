import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../../errors.ts';
import { readError, statOf } from '../../read-error.ts';
import { captioned } from '../caption.ts';
import { parseConversation, RowError } from '../conversation.ts';
import { inLanes } from '../lanes.ts';
import type { OpenRows, Part, Row, RowOptions, RowSizes } from '../rows.ts';
import { decodeText } from '../text.ts';

/** The file that holds an image's caption. */
const captionFileOf = (image: string): string => image.replace(/\.[^./]+$/, '.txt');

/** Images of a folder, each with a text file of its name beside it. */
export class CaptionedImages implements OpenRows {
  readonly file: string;
  /** Below the folder, in order. */
  readonly #images: readonly string[];
  readonly #prompt: string | undefined;

  constructor(folder: string, images: readonly string[], { prompt }: RowOptions = {}) {
    this.file = folder;
    this.#images = images;
    this.#prompt = prompt;
  }

  get length(): number {
    return this.#images.length;
  }

  get parts(): readonly Part[] {
    return [{ rows: this.length, blocks: [{ rows: this.length, memory: 0 }] }];
  }

  async row(index: number): Promise<Row> {
    const image = this.#images[index];
    if (image === undefined) throw new DataError(`${this.file} has ${this.length} images, there is no image ${index}`);
    const name = this.nameOf(index);
    const caption = await this.#caption(name);
    return {
      name,
      ...parseConversation({ image: name, conversations: captioned(caption, this.#prompt) }, name, { resolve: (file) => file }),
    };
  }

  nameOf(index: number): string {
    return join(this.file, this.#images[index] ?? '');
  }

  async sizes(): Promise<RowSizes> {
    const text = await inLanes(this.length, async (i) => (await statOf(captionFileOf(this.nameOf(i))))?.size ?? 0);
    return { text: Uint32Array.from(text), images: new Uint16Array(this.length).fill(1) };
  }

  close(): void {}

  [Symbol.dispose](): void {}

  async #caption(image: string): Promise<string> {
    const file = captionFileOf(image);
    try {
      const caption = decodeText(await readFile(file), file).trim();
      if (caption !== '') return caption;
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
        throw readError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
    }
    throw new RowError('broken row', `${image} has no caption`, { hint: `write one into ${file}` });
  }
}
