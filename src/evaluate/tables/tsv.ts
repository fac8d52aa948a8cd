import { tableRecords } from '../../data/captions/records.ts';
import { DataError } from '../../errors.ts';

/** Cells that pandas reads as missing. */
export const missing: ReadonlySet<string> = new Set([
  '',
  'NA',
  'N/A',
  '#N/A',
  'n/a',
  'NaN',
  'nan',
  '-NaN',
  '-nan',
  'NULL',
  'null',
  'None',
  '<NA>',
  '1.#IND',
  '-1.#IND',
  '1.#QNAN',
  '-1.#QNAN',
  '#NA',
  '#N/A N/A',
]);

/**
 * The rows of a file with tabs between its cells, as pandas reads them: the first row names the columns, a cell in quotes may hold tabs and line breaks, and a
 * cell that means "missing" is left out. The file is read piece by piece. Throws DataError.
 */
export async function* tsvRows(path: string): AsyncGenerator<Record<string, string>> {
  let names: readonly string[] | undefined;
  let number = 0;
  for await (const cells of tableRecords(path, '\t')) {
    number += 1;
    if (names === undefined) {
      names = cells;
      continue;
    }
    if (cells.length > names.length) {
      throw new DataError(`${path}: row ${number} has ${cells.length} cells, but there are ${names.length} columns`);
    }
    const columns = names;
    yield Object.fromEntries(cells.flatMap((cell, i) => (missing.has(cell) ? [] : [[columns[i] ?? '', cell]])));
  }
}
