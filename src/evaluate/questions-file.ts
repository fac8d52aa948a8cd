import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { decodeText, isArchive } from '../data/text.ts';
import { DataError } from '../errors.ts';
import { examine } from '../model/explain.ts';
import type { Sample } from './task.ts';

/** The first of `places` in the folder that exists, else undefined. */
export const firstExisting = (folder: string, places: readonly string[]): string | undefined =>
  places.map((place) => join(folder, place)).find(existsSync);

/**
 * The rows of a JSON array, or of a JSONL file, each checked by the schema. Throws DataError naming the file, the first wrong row and what
 * is wrong with it.
 */
export async function readRows<Schema extends z.ZodType>(file: string, schema: Schema): Promise<z.output<Schema>[]> {
  return parsedRows(await readText(file), file).map(({ value, place }) => checkedRow(schema, value, place));
}

/** A file's text, without a byte order mark. Throws DataError, for another encoding than UTF-8 and for an archive too. */
export async function readText(file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new DataError(`${file}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (isArchive(file)) throw new DataError(`${file}: an archive, and not the file in it`, { hint: 'unpack it first' });
  return decodeText(bytes, file).replace(/^\ufeff/, '');
}

const problemsShown = 3;

/** A row of a benchmark's file, or the whole of one, as the schema has it. Throws DataError saying where and what is wrong. */
export function checkedRow<Schema extends z.ZodType>(schema: Schema, value: unknown, place: string): z.output<Schema> {
  const { data, problems } = examine(schema, value);
  if (!problems) return data;
  const said = problems.map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`));
  const more = said.length > problemsShown ? `; and ${said.length - problemsShown} more` : '';
  throw new DataError(`${place}: ${said.slice(0, problemsShown).join('; ')}${more}`, {
    hint: "see whether the file is another benchmark's, or was cut off",
  });
}

/** The values of a JSON array, or of the lines of a JSONL file, with where they stand. Throws DataError for what is not JSON. */
export function parsedRows(text: string, file: string): { value: unknown; place: string }[] {
  const json = (source: string, place: string): unknown => {
    try {
      return JSON.parse(source);
    } catch (cause) {
      throw new DataError(`${place}: not JSON: ${(cause as Error).message}`, { cause });
    }
  };
  if (text.trimStart().startsWith('[') && !file.endsWith('.jsonl')) {
    const rows = json(text, file);
    if (Array.isArray(rows)) return rows.map((value: unknown, i) => ({ value, place: `${file}#${i}` }));
  }
  return text.split('\n').flatMap((line, i) => {
    const place = `${file}:${i + 1}`;
    return line.trim() === '' ? [] : [{ value: json(line, place), place }];
  });
}

/** Throws DataError for two questions of one id: answers and comparisons go by it. */
export function checkIds(samples: readonly Sample[], file: string): void {
  const known = new Set<string>();
  for (const { id } of samples) {
    if (known.has(id)) throw new DataError(`${file}: two questions have the id ${id}`, { hint: 'give each an id of its own' });
    known.add(id);
  }
}
