import { readFile } from 'node:fs/promises';
import { readXlsx, writeXlsx } from 'hucre/xlsx';
import { DataError } from '../../errors.ts';
import { missing } from './tsv.ts';

/** The rows of the first sheet of an Excel file as pandas reads them: the first row names the columns, and cells that mean "missing" are left out. Throws DataError. */
export async function xlsxRows(path: string): Promise<Record<string, string>[]> {
  const [names = [], ...rows] = await firstSheet(path);
  return rows.map((cells) =>
    Object.fromEntries(
      cells.flatMap((cell, i) => {
        const text = cell === null ? '' : cell instanceof Date ? cell.toISOString() : String(cell);
        return missing.has(text) ? [] : [[String(names[i] ?? ''), text]];
      }),
    ),
  );
}

async function firstSheet(path: string): Promise<(string | number | boolean | Date | null)[][]> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  try {
    const { sheets } = await readXlsx(bytes);
    return sheets[0]?.rows ?? [];
  } catch (cause) {
    throw new DataError(`${path}: no Excel file (.xlsx): ${(cause as Error).message}`, {
      hint: 'an older .xls has to be saved as .xlsx or TSV first',
      cause,
    });
  }
}

/** An Excel file of one sheet, whose columns are called as in the first row. It has no time in it, so that equal rows make equal files. */
export function xlsxOf(rows: readonly Readonly<Record<string, string | number>>[]): Promise<Uint8Array> {
  const names = Object.keys(rows[0] ?? {});
  const cells = rows.map((row) => names.map((name) => row[name] ?? null));
  return writeXlsx({ sheets: [{ name: 'Sheet1', rows: [names, ...cells] }], properties: { modified: new Date(0) } });
}
