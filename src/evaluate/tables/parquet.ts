import { imageBytes, ParquetFile } from '../../data/parquet/file.ts';
import { Unpacker } from './unpack.ts';

/**
 * The rows of a Parquet file, read a row group at a time. Images come as files in the cache folder, which are only named when they are not wanted.
 * Throws DataError for a file that is none.
 */
export async function* parquetRows(
  path: string,
  { images = true }: { images?: boolean | undefined },
): AsyncGenerator<Record<string, unknown>> {
  const file = await ParquetFile.open(path);
  const pictures = file.imageColumns;
  const unpacker = pictures.size > 0 ? await Unpacker.of(path, { write: images }) : undefined;
  for (const group of file.groups.keys()) {
    for (const row of await file.read(group, { columns: file.columns })) {
      for (const name of unpacker ? pictures : []) row[name] = await unpacked(unpacker, row[name]);
      yield row;
    }
  }
}

/** Files instead of the images in a cell; a list stays a list. */
async function unpacked(unpacker: Unpacker | undefined, cell: unknown): Promise<unknown> {
  if (!unpacker || cell === null || cell === undefined) return undefined;
  if (Array.isArray(cell)) return Promise.all(cell.map((one: unknown) => unpacked(unpacker, one)));
  const bytes = imageBytes(cell);
  return bytes === undefined ? undefined : unpacker.file(bytes);
}
