import { DataError } from '../errors.ts';
import { CaptionedImages } from './captions/folder.ts';
import { CaptionTable } from './captions/table.ts';
import { Dataset } from './dataset.ts';
import { findDataFiles } from './find.ts';
import { ParquetRows } from './parquet/rows.ts';
import type { OpenRows, RowOptions } from './rows.ts';
import { TarRows } from './tar/rows.ts';

/** Opens training data of any form that is known: by the file's name, or by what lies in the folder. Throws DataError. */
export async function openRows(name: string, options: RowOptions = {}): Promise<OpenRows> {
  const { form, files, images = [] } = await findDataFiles(name);
  const [file = name] = files;
  if (options.minRatings && form !== 'parquet')
    throw new DataError(`${name} has no ratings`, { hint: 'remove minRatings: they are in columns of Parquet tables' });
  switch (form) {
    case 'json':
      return Dataset.open(file, options);
    case 'table':
      return CaptionTable.open(file, options);
    case 'parquet':
      return ParquetRows.open(name, files, options);
    case 'tar':
      return TarRows.open(name, files, options);
    case 'images':
      return new CaptionedImages(name, images, options);
  }
}
