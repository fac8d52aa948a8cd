import { open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects, type SchemaElement } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { readError } from '../../read-error.ts';

/** Rows of a Parquet file that are stored together and read at once. */
export interface RowGroup {
  /** The number of its first row in the file. */
  readonly from: number;
  readonly rows: number;
}

/** What is read of a row group. */
interface Wanted {
  readonly columns: readonly string[];
  /** Off: of images only whether they are there, and their paths. */
  readonly imageBytes?: boolean;
}

/** A Parquet file, read by row groups. */
export class ParquetFile {
  readonly path: string;
  /** The top columns. */
  readonly columns: readonly string[];
  /** Those that hold images: a struct of bytes and path, as Hugging Face's Image feature stores them, or a list of such. */
  readonly imageColumns: ReadonlySet<string>;
  readonly groups: readonly RowGroup[];
  readonly #metadata: FileMetaData;

  private constructor(path: string, metadata: FileMetaData) {
    this.path = path;
    this.#metadata = metadata;
    const tops = topColumns(metadata.schema);
    this.columns = tops.map(({ name }) => name);
    this.imageColumns = new Set(tops.filter(({ elements }) => elements.some((_, i) => isImage(elements, i))).map(({ name }) => name));
    let from = 0;
    this.groups = metadata.row_groups.map(({ num_rows }) => {
      const group = { from, rows: Number(num_rows) };
      from += group.rows;
      return group;
    });
  }

  /** Reads the file's footer. Throws DataError for a file that is no Parquet. */
  static async open(path: string): Promise<ParquetFile> {
    try {
      return new ParquetFile(path, await parquetMetadataAsync(await bufferOf(path)));
    } catch (cause) {
      throw unreadable(path, 0, cause as Error);
    }
  }

  /** What a row group's columns take in memory. */
  bytesOf(group: number, columns: readonly string[]): number {
    const chunks = this.#metadata.row_groups[group]?.columns ?? [];
    return chunks.reduce(
      (sum, { meta_data }) => sum + (columns.includes(meta_data?.path_in_schema[0] ?? '') ? Number(meta_data?.total_uncompressed_size) : 0),
      0,
    );
  }

  /** The rows of a group: whole numbers are numbers, and what is null is left out. Throws DataError. */
  async read(group: number, { columns, imageBytes = true }: Wanted): Promise<Record<string, unknown>[]> {
    const { from = 0, rows = 0 } = this.groups[group] ?? {};
    try {
      const metadata = imageBytes ? this.#metadata : withoutImageBytes(this.#metadata);
      const file = await bufferOf(this.path);
      const read = { file, metadata, compressors, columns: [...columns], rowStart: from, rowEnd: from + rows, utf8: false };
      return (await parquetReadObjects(read)).map((row) => plain(row) as Record<string, unknown>);
    } catch (cause) {
      throw unreadable(this.path, from, cause as Error);
    }
  }
}

/** The encoded image of a cell, where it has one. */
export function imageBytes(cell: unknown): Uint8Array | undefined {
  if (cell instanceof Uint8Array) return cell;
  if (typeof cell !== 'object' || cell === null) return undefined;
  const { bytes } = cell as { bytes?: unknown };
  return bytes instanceof Uint8Array ? bytes : undefined;
}

function unreadable(path: string, row: number, cause: Error): Error {
  const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
  return readError(missing ? `${path} does not exist` : `${path}: cannot be read as Parquet (row ${row} on): ${cause.message}`, {
    hint: missing ? 'check the path' : `get ${basename(path)} again; a Git LFS pointer is a text file of three lines`,
    cause,
  });
}

/** Two marks and the length of the footer. */
const shortest = 12;

/** A file as hyparquet reads it, piece by piece; it is open only while it is read, as sets have more shards than a process may have open files. */
async function bufferOf(path: string): Promise<AsyncBuffer> {
  const { size } = await stat(path);
  if (size < shortest) throw new Error(`it has ${size} bytes`);
  return {
    byteLength: size,
    slice: async (start, end = size) => {
      await using file = await open(path);
      const bytes = new Uint8Array(end - start);
      for (let at = 0; at < bytes.length; ) {
        const { bytesRead } = await file.read(bytes, at, bytes.length - at, start + at);
        if (bytesRead === 0) throw new Error('the file ends early');
        at += bytesRead;
      }
      return bytes.buffer;
    },
  };
}

/** How many elements of a schema, which is a tree written depth first, belong to the one at a place. */
function treeSize(schema: readonly SchemaElement[], at: number): number {
  let size = 1;
  for (let child = 0; child < (schema[at]?.num_children ?? 0); child++) size += treeSize(schema, at + size);
  return size;
}

function topColumns(schema: readonly SchemaElement[]): { name: string; elements: readonly SchemaElement[] }[] {
  const tops: { name: string; elements: readonly SchemaElement[] }[] = [];
  for (let i = 1; i < schema.length; i += treeSize(schema, i)) {
    tops.push({ name: schema[i]?.name ?? '', elements: schema.slice(i, i + treeSize(schema, i)) });
  }
  return tops;
}

/** Whether the element at a place is a struct of bytes and path. */
function isImage(elements: readonly SchemaElement[], at: number): boolean {
  const children = elements.slice(at + 1, at + 1 + (elements[at]?.num_children ?? 0)).map(({ name }) => name);
  return children.length === 2 && children.includes('bytes') && children.includes('path');
}

/** The same file as if its images had paths alone: their bytes lie in chunks of their own, which are not touched then. */
function withoutImageBytes(metadata: FileMetaData): FileMetaData {
  const schema = metadata.schema.flatMap((element, i) => {
    const [before, beforeThat] = [i - 1, i - 2].map((parent) => isImage(metadata.schema, parent));
    if (element.name === 'bytes' && (before || beforeThat)) return [];
    return [isImage(metadata.schema, i) ? { ...element, num_children: 1 } : element];
  });
  const isBytes = (path: readonly string[] = []): boolean => path.length > 1 && path.at(-1) === 'bytes';
  const row_groups = metadata.row_groups.map((group) => ({
    ...group,
    columns: group.columns.filter(({ meta_data }) => !isBytes(meta_data?.path_in_schema)),
  }));
  return { ...metadata, schema, row_groups };
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value === null) return undefined;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value instanceof Uint8Array || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value ?? {}).map(([key, inner]) => [key, plain(inner)]));
}
