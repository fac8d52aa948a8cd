import { existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { DataError } from '../errors.ts';
import { isImageName } from './image-names.ts';
import { byCodePoints, filesOf, isPattern } from './patterns.ts';
import { isArchive } from './text.ts';

/** Training data as it was found. */
export interface FoundData {
  readonly form: 'json' | 'parquet' | 'tar' | 'table' | 'images';
  /** All that its rows are read from, images apart, in the order of the rows. */
  readonly files: readonly string[];
  /** Below the folder, of the form `images`. */
  readonly images?: readonly string[];
}

const forms: Readonly<Record<string, FoundData['form']>> = {
  '.json': 'json',
  '.jsonl': 'json',
  '.parquet': 'parquet',
  '.tar': 'tar',
  '.csv': 'table',
  '.tsv': 'table',
};

/** Files of captions, by which a folder is known. */
const captionFiles = ['metadata.csv', 'metadata.jsonl', 'captions.csv', 'captions.tsv', 'captions.json', 'captions.jsonl'];

const hint =
  'data is a .json or .jsonl file, .parquet or .tar shards (a file, a folder, or a pattern such as shard-{000..012}.tar), a .csv or .tsv of captions, or a folder of images with captions';

const formOf = (path: string): FoundData['form'] | undefined => forms[extname(path).toLowerCase()];

/** What training data of a name is: a file, a pattern of shards, or a folder. Throws DataError. */
export async function findDataFiles(name: string): Promise<FoundData> {
  const found = statSync(name, { throwIfNoEntry: false });
  if (found?.isDirectory()) return inFolder(name);
  const files = !found && isPattern(name) ? await filesOf(name) : [name];
  const [form, ...others] = new Set(files.map(formOf));
  if (form === undefined) {
    const what = found ? 'is no data that is known by its name' : 'does not exist';
    throw new DataError(`${name} ${what}`, { hint: found && isArchive(name) ? 'unpack it: rows are read where they lie' : hint });
  }
  if (others.length > 0 || (files.length > 1 && form !== 'parquet' && form !== 'tar')) {
    throw new DataError(`${name} are ${files.length} files that are not all shards of Parquet or tar`, {
      hint: 'list them under data: instead',
    });
  }
  const missing = files.find((file) => !existsSync(file));
  if (missing !== undefined)
    throw new DataError(`${missing} does not exist`, { hint: 'check the path; a relative one in a recipe starts at --data' });
  return { form, files };
}

/** Whether a file's name is that of training data. */
export const isDataName = (path: string): boolean => formOf(path) !== undefined;

/** Whether a folder may hold training data, and no model. */
export async function isDataFolder(folder: string): Promise<boolean> {
  const names = await filesIn(folder);
  if (names.some((name) => /(config\.json|\.safetensors|\.gguf|\.bin|\.pth)$/.test(name))) return false;
  return names.some((name) => isDataName(name) || isImageName(name));
}

/** All files below a folder but hidden ones. */
async function filesIn(folder: string): Promise<string[]> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => !/(^|\/)\./.test(name));
  const folders = new Set(names.map((name) => dirname(name)));
  return names.filter((name) => !folders.has(name));
}

async function inFolder(folder: string): Promise<FoundData> {
  const names = await filesIn(folder);
  const shards = (form: FoundData['form']): string[] => names.filter((name) => formOf(name) === form).sort(byCodePoints);
  const [parquet, tar] = [shards('parquet'), shards('tar')];
  if (parquet.length > 0 && tar.length > 0)
    throw new DataError(`${folder} has shards of Parquet and of tar`, { hint: 'name those that are meant, such as folder/*.tar' });
  const place = (name: string): string => join(folder, name);
  if (parquet.length > 0) return { form: 'parquet', files: parquet.map(place) };
  if (tar.length > 0) return { form: 'tar', files: tar.map(place) };
  const tables = captionFiles.filter((name) => names.includes(name));
  const [table] = tables;
  if (tables.length > 1) throw new DataError(`${folder} has ${tables.join(' and ')}`, { hint: 'name the file that is meant' });
  if (table !== undefined) return { form: formOf(table) ?? 'table', files: [place(table)] };
  return imagesIn(folder, names);
}

/** Images with captions in files of their names. */
function imagesIn(folder: string, names: readonly string[]): FoundData {
  const texts = new Set(names.filter((name) => name.endsWith('.txt')));
  const images = names.filter(isImageName).sort(byCodePoints);
  const captions = images.map((name) => name.replace(/\.[^./]+$/, '.txt')).filter((name) => texts.has(name));
  if (captions.length > 0) return { form: 'images', files: captions.map((name) => join(folder, name)), images };
  const json = names.filter((name) => formOf(name) === 'json').sort(byCodePoints);
  const what = images.length > 0 ? 'has images, but no caption beside any of them' : 'holds no training data';
  throw new DataError(`${folder} ${what}`, {
    hint: json.length > 0 ? `name the file of conversations, such as ${join(folder, json[0] ?? '')}` : hint,
  });
}
