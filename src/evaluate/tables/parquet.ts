import { basename } from 'node:path';
import { asyncBufferFromFile, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { DataError } from '../../errors.ts';
import { Unpacker } from './unpack.ts';

/** A struct of Hugging Face's Image feature: the encoded image, or where it lies. */
function imageBytes(cell: unknown): Uint8Array | undefined {
  if (cell instanceof Uint8Array) return cell;
  if (typeof cell !== 'object' || cell === null) return undefined;
  const { bytes } = cell as { bytes?: unknown };
  return bytes instanceof Uint8Array ? bytes : undefined;
}

/** The top columns that hold images: a struct of bytes and path, or a list of such. */
function imageColumns({ schema }: FileMetaData): Set<string> {
  const found = new Set<string>();
  let top = '';
  let topEnd = 1;
  // The schema is a tree written depth first; `ends` counts how many elements are left under the open top column.
  for (let i = 1; i < schema.length; i++) {
    const element = schema[i];
    if (i === topEnd) {
      top = element?.name ?? '';
      topEnd = i + treeSize(schema, i);
    }
    const children = schema.slice(i + 1, i + 1 + (element?.num_children ?? 0)).map(({ name }) => name);
    if (children.length === 2 && children.includes('bytes') && children.includes('path')) found.add(top);
  }
  return found;
}

function treeSize(schema: FileMetaData['schema'], at: number): number {
  let size = 1;
  for (let child = 0; child < (schema[at]?.num_children ?? 0); child++) size += treeSize(schema, at + size);
  return size;
}

/**
 * The rows of a Parquet file, read a row group at a time. Images come as files in the cache folder, or not at all when they are not wanted.
 * Throws DataError for a file that is none.
 */
export async function* parquetRows(
  path: string,
  { images = true }: { images?: boolean | undefined },
): AsyncGenerator<Record<string, unknown>> {
  let done = 0;
  try {
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file);
    const pictures = imageColumns(metadata);
    const unpacker = images && pictures.size > 0 ? await Unpacker.of(path) : undefined;
    const names = topColumns(metadata).filter((name) => images || !pictures.has(name));
    for (const group of metadata.row_groups) {
      const end = done + Number(group.num_rows);
      const rows = await parquetReadObjects({ file, metadata, compressors, columns: names, rowStart: done, rowEnd: end, utf8: false });
      for (const row of rows) {
        for (const name of unpacker ? pictures : []) row[name] = await unpacked(unpacker, row[name]);
        yield plain(row) as Record<string, unknown>;
      }
      done = end;
    }
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`${path}: cannot be read as Parquet (row ${done} on): ${(cause as Error).message}`, {
      hint: `get ${basename(path)} again; a Git LFS pointer is a text file of three lines`,
      cause,
    });
  }
}

function topColumns({ schema }: FileMetaData): string[] {
  const names: string[] = [];
  for (let i = 1; i < schema.length; i += treeSize(schema, i)) names.push(schema[i]?.name ?? '');
  return names;
}

/** Files instead of the images in a cell; a list stays a list. */
async function unpacked(unpacker: Unpacker | undefined, cell: unknown): Promise<unknown> {
  if (!unpacker || cell === null || cell === undefined) return undefined;
  if (Array.isArray(cell)) return Promise.all(cell.map((one: unknown) => unpacked(unpacker, one)));
  const bytes = imageBytes(cell);
  return bytes === undefined ? undefined : unpacker.file(bytes);
}

/** Without bigints and nulls: whole numbers are numbers, what is null is left out. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value === null) return undefined;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value instanceof Uint8Array || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value ?? {}).map(([key, inner]) => [key, plain(inner)]));
}
