import { open } from 'node:fs/promises';
import { DataError } from '../../errors.ts';
import { captioned } from '../caption.ts';
import { parseConversation, RowError } from '../conversation.ts';
import { inLanes } from '../lanes.ts';
import { placeIn } from '../place-in.ts';
import type { Block, OpenRows, Part, Row, RowOptions, RowSizes } from '../rows.ts';
import { decodeText } from '../text.ts';
import { type RowMember, Shard } from './shard.ts';

/** Rows of an archive that lie together. */
const blockRows = 1000;

/** Conversations of WebDataset's tar shards. Opening reads their headers; a row is one read at its place. */
export class TarRows implements OpenRows {
  readonly file: string;
  readonly length: number;
  readonly parts: readonly Part[];
  readonly #shards: readonly Shard[];
  readonly #starts: readonly number[];
  readonly #prompt: string | undefined;

  private constructor(file: string, shards: readonly Shard[], { prompt }: RowOptions) {
    this.file = file;
    this.#prompt = prompt;
    this.#shards = shards.filter(({ length }) => length > 0);
    let length = 0;
    this.#starts = this.#shards.map((shard) => {
      length += shard.length;
      return length - shard.length;
    });
    this.length = length;
    this.parts = [{ rows: length, blocks: this.#shards.flatMap((shard) => blocksOf(shard.length)) }];
  }

  /** Opens shards one behind the other. Throws DataError for one that is no archive, or is cut off, and where no row has a text. */
  static async open(file: string, paths: readonly string[], options: RowOptions = {}): Promise<TarRows> {
    const rows = new TarRows(file, await inLanes(paths.length, (i) => Shard.open(paths[i] ?? '')), options);
    if (rows.length > 0 && !rows.#shards.some(({ hasTexts }) => hasTexts)) {
      const endings = [...new Set(rows.#shards.flatMap(({ otherEndings }) => [...otherEndings]))].sort().join(', ');
      throw new DataError(`no row of ${file} has a .json or a .txt${endings ? `, but ${endings}` : ''}`, {
        hint: 'a row is files of one name, such as 0007.jpg with 0007.txt (a caption) or 0007.json (conversations)',
      });
    }
    return rows;
  }

  async row(index: number): Promise<Row> {
    const { shard, at } = this.#find(index);
    const name = this.nameOf(index);
    const members = await bodies(shard.path, shard.members(at));
    const of = (wanted: RowMember['kind']): Buffer[] => members.flatMap(({ kind, bytes }) => (kind === wanted ? [bytes] : []));
    const [texts, jsons] = [of('text'), of('json')];
    // In memory of their own, for rows go to other threads, and a part of a buffer would take all of it along; and plain, for a Buffer spells all of its
    // bytes out in JSON.
    const images = of('image').map((bytes) => new Uint8Array(bytes));
    if (texts.length > 1 || jsons.length > 1)
      throw new RowError('broken row', `${name} has two texts`, { hint: 'give each row a name of its own' });
    const fields = jsons[0] && parsed(jsons[0], name);
    const row =
      'conversations' in (fields ?? {})
        ? fields
        : { id: shard.keys[at], conversations: captioned(captionOf(texts[0], fields, name), this.#prompt) };
    return { name, ...parseConversation(row, name, { resolve: (file) => file, images }) };
  }

  nameOf(index: number): string {
    const { shard, at } = this.#find(index);
    return `${shard.path}#${shard.keys[at]}`;
  }

  /** From the headers alone. */
  async sizes(): Promise<RowSizes> {
    const [text, images] = [new Uint32Array(this.length), new Uint16Array(this.length)];
    for (const [number, shard] of this.#shards.entries()) {
      const start = this.#starts[number] ?? 0;
      for (let at = 0; at < shard.length; at++) {
        const members = shard.members(at);
        images[start + at] = members.filter(({ kind }) => kind === 'image').length;
        text[start + at] = Math.max(0, ...members.flatMap(({ kind, size }) => (kind === 'image' ? [] : [size])));
      }
    }
    return { text, images };
  }

  close(): void {}

  [Symbol.dispose](): void {}

  #find(index: number): { shard: Shard; at: number } {
    const number = placeIn(this.#starts, index);
    const shard = this.#shards[number];
    if (!shard || !(index >= 0 && index < this.length))
      throw new DataError(`${this.file} has ${this.length} rows, there is no row ${index}`);
    return { shard, at: index - (this.#starts[number] ?? 0) };
  }
}

const blocksOf = (rows: number): Block[] =>
  Array.from({ length: Math.ceil(rows / blockRows) }, (_, i) => ({ rows: Math.min(blockRows, rows - i * blockRows), memory: 0 }));

/** What members hold, by one read, as those of a row lie together. */
async function bodies(path: string, members: readonly RowMember[]): Promise<{ kind: RowMember['kind']; bytes: Buffer }[]> {
  const [first, last] = [members[0], members.at(-1)];
  if (!first || !last) return [];
  const all = Buffer.alloc(last.offset + last.size - first.offset);
  await using file = await open(path);
  for (let at = 0; at < all.length; ) {
    const { bytesRead } = await file.read(all, at, all.length - at, first.offset + at);
    if (bytesRead === 0) throw new DataError(`${path} has become shorter since it was opened`);
    at += bytesRead;
  }
  return members.map(({ kind, offset, size }) => ({ kind, bytes: all.subarray(offset - first.offset, offset - first.offset + size) }));
}

function parsed(bytes: Buffer, name: string): object {
  const text = decodeText(bytes, `${name}: its .json`);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
    throw new Error('it is no object');
  } catch (cause) {
    throw new RowError('broken row', `${name}: its .json is not valid: ${(cause as Error).message}`, { cause });
  }
}

function captionOf(text: Buffer | undefined, fields: { caption?: unknown; text?: unknown } | undefined, name: string): string {
  const caption = text ? decodeText(text, `${name}: its caption`).trim() : (fields?.caption ?? fields?.text);
  if (typeof caption === 'string' && caption !== '') return caption;
  throw new RowError('broken row', `${name} has no caption`, {
    hint: 'a row has a .txt, or a .json with "caption" or "conversations"',
  });
}
