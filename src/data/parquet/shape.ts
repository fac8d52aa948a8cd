import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { explain } from '../../model/explain.ts';
import type { ImageSource } from '../../processor/message.ts';
import { captioned } from '../caption.ts';
import type { MinRatings } from '../rows.ts';
import { imageBytes, type ParquetFile } from './file.ts';
import { Ratings } from './ratings.ts';

const Exchanges = z.array(z.object({ user: z.string(), assistant: z.string() })).min(1);
const Caption = z.string();

interface TextColumn {
  /** Turns of LLaVA's JSON from a cell; `images` have no tag yet where the text has none. */
  turns(cell: unknown, given: { readonly images: number; readonly prompt: string | undefined }): unknown;
}

/** Columns that hold what is said, the first one that a table has counts. */
const textColumns: Readonly<Record<string, TextColumn>> = {
  /** LLaVA's own. */
  conversations: { turns: (cell) => cell },
  /** The Cauldron's and FineVision's. */
  texts: { turns: (cell, { images }) => tagged(Exchanges.parse(cell, { error: explain }), images) },
  caption: { turns: (cell, { prompt }) => captioned(Caption.parse(cell, { error: explain }), prompt) },
  text: { turns: (cell, { prompt }) => captioned(Caption.parse(cell, { error: explain }), prompt) },
};

/** Columns that hold images, the first one that a table has counts. */
const imageColumns = ['images', 'image'];

/** Questions and answers as turns; images go in front of the first question unless there are tags, as nanoVLM has them. */
function tagged(exchanges: z.output<typeof Exchanges>, images: number): { from: string; value: string }[] {
  const turns = exchanges.flatMap(({ user, assistant }) => [
    { from: 'human', value: user },
    { from: 'gpt', value: assistant },
  ]);
  const [first, ...rest] = turns;
  if (!first || images === 0 || turns.some(({ value }) => value.includes('<image>'))) return turns;
  return [{ ...first, value: `${'<image>'.repeat(images)}\n${first.value}` }, ...rest];
}

/** How a table holds conversations. */
export interface TableShape {
  readonly text: string;
  readonly images: string | undefined;
  /** What leaves out rows and questions. */
  readonly ratings: Ratings | undefined;
  /** All that is read of a row. */
  readonly columns: readonly string[];
}

/** Throws DataError where no known column holds conversations, or those of ratings that are asked for. */
export function shapeOf(file: ParquetFile, minRatings: MinRatings | undefined): TableShape {
  const { path, columns } = file;
  const text = Object.keys(textColumns).find((name) => columns.includes(name));
  if (text === undefined) {
    throw new DataError(`${path} has no conversations, its columns are ${columns.join(', ')}`, {
      hint: `conversations are in a column ${Object.keys(textColumns).join(', ')}, and images in ${imageColumns.join(' or ')}; rename them`,
    });
  }
  const images = imageColumns.find((name) => columns.includes(name));
  const ratings = minRatings && new Ratings(file, minRatings, { whole: text !== 'texts' });
  const wanted = ['id', images, text, ...(ratings?.columns ?? [])];
  return { text, images, ratings, columns: wanted.filter((name): name is string => name !== undefined && columns.includes(name)) };
}

/** The cell that holds what is said, without questions that are rated too low. */
export function textOf(cells: Readonly<Record<string, unknown>>, { text, ratings }: TableShape): unknown {
  const [cell, staying] = [cells[text], ratings?.staying(cells)];
  return Array.isArray(cell) && staying?.includes(false) ? cell.filter((_, question) => staying[question] !== false) : cell;
}

/** A table's row as one of LLaVA's JSON, and its images. Throws ZodError. */
export function llavaRow(
  cells: Readonly<Record<string, unknown>>,
  shape: TableShape,
  { prompt, resolve }: { prompt: string | undefined; resolve: (path: string) => string },
): { row: unknown; images: ImageSource[] } {
  const { text, images: column } = shape;
  const images = column === undefined ? [] : [cells[column]].flat().flatMap((cell) => imageOf(cell, resolve));
  const conversations = textColumns[text]?.turns(textOf(cells, shape), { images: images.length, prompt });
  return { row: { id: cells['id'], conversations }, images };
}

function imageOf(cell: unknown, resolve: (path: string) => string): ImageSource[] {
  // a copy of its own: rows go to other threads, and a part of a page would take the page with it
  const bytes = imageBytes(cell)?.slice();
  if (bytes) return [bytes];
  const path = typeof cell === 'object' ? (cell as { path?: unknown } | null)?.path : cell;
  return typeof path === 'string' && path !== '' ? [resolve(path)] : [];
}
