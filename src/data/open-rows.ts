import { Dataset } from './dataset.ts';
import type { OpenRows, RowOptions } from './rows.ts';

/** Opens training data of any form that is known: by the file's name, or by what lies in the folder. Throws DataError. */
export async function openRows(file: string, { imageFolder }: RowOptions = {}): Promise<OpenRows> {
  return Dataset.open(file, imageFolder === undefined ? {} : { imageFolder });
}
