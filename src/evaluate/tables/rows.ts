import { extname } from 'node:path';
import type { z } from 'zod';
import { DataError } from '../../errors.ts';
import { checkedRow, readRows } from '../questions-file.ts';
import type { OpenOptions } from '../task.ts';
import { parquetRows } from './parquet.ts';
import { tsvRows } from './tsv.ts';
import { Unpacker } from './unpack.ts';
import { xlsxRows } from './xlsx.ts';

/**
 * The rows of tables, in the order of the files, each checked by the schema: Parquet and VLMEvalKit's TSV (images in them become files, or names of such where
 * images are not wanted), Excel's xlsx, JSON or JSONL. Throws DataError naming file, row and what is wrong.
 */
export async function tableRows<Schema extends z.ZodType>(
  files: readonly string[],
  schema: Schema,
  options: OpenOptions = {},
): Promise<z.output<Schema>[]> {
  const all: z.output<Schema>[] = [];
  for (const file of files) {
    const kind = extname(file).toLowerCase();
    if (kind === '.json' || kind === '.jsonl') {
      for (const row of await readRows(file, schema)) all.push(row);
      continue;
    }
    if (kind === '.csv')
      throw new DataError(`${file}: questions are not read from .csv`, { hint: 'save it as .tsv or .xlsx, or write JSONL' });
    const rows = kind === '.parquet' ? parquetRows(file, options) : kind === '.xlsx' ? await xlsxRows(file) : withImages(file, options);
    let number = 0;
    for await (const row of rows) {
      all.push(checkedRow(schema, row, `${file}#${number}`));
      number += 1;
    }
  }
  return all;
}

/** VLMEvalKit's rows: `image` is base64, a list of such, or the index of the row that has the image. */
async function* withImages(file: string, { images = true }: OpenOptions): AsyncGenerator<Record<string, unknown>> {
  const unpacker = await Unpacker.of(file, { write: images });
  const known = new Map<string, readonly string[]>();
  for await (const { image, ...row } of tsvRows(file)) {
    const index = row['index'] ?? '';
    if (image === undefined) {
      yield row;
      continue;
    }
    const shared = image.length < 64 ? known.get(image) : undefined;
    const found = shared ?? (await Promise.all(base64List(image).map((one) => unpacker.file(Buffer.from(one, 'base64')))));
    known.set(index, found);
    yield { ...row, image: found };
  }
}

function base64List(cell: string): string[] {
  if (!cell.startsWith('[')) return [cell];
  return [...cell.matchAll(/['"]([A-Za-z0-9+/=]+)['"]/g)].map(([, one]) => one ?? '');
}
