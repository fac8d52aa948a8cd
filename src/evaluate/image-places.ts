import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { cacheFolder } from '../cache-folder.ts';
import { DataError } from '../errors.ts';
import type { Sample } from './task.ts';

/** A single image that is missing is a failure of its questions; where all are, their folder is wrong. Throws DataError. */
export function checkImages(samples: readonly Sample[], task: string): void {
  const images = samples.flatMap((sample) => sample.images);
  if (images.length === 0 || images.some((image) => isAddress(image) || existsSync(image))) return;
  throw new DataError(`${task}: none of its images exists, such as ${images[0]}`, {
    hint: 'check the folder of the images, and how the questions name them',
  });
}

/** An address, such as `https:` or `data:`. */
const isAddress = (name: string): boolean => /^[a-z][a-z0-9+.-]+:/i.test(name);

/**
 * An image's file as samples name it: below the data folder, or below the cache folder where it came out of a table. So samples say the same on every machine
 * and can be moved; a file elsewhere keeps its absolute path.
 */
export function placeOf(file: string, data: string): string {
  if (isAddress(file)) return file;
  const path = resolve(file);
  for (const folder of [data, cacheFolder(process.env)]) {
    const below = relative(resolve(folder), path);
    if (below !== '' && below !== '..' && !below.startsWith(`..${sep}`) && !isAbsolute(below)) return below.split(sep).join('/');
  }
  return path;
}

/** A message about images, which it names as samples do. */
export const namingPlaces = (message: string, images: readonly string[], data: string): string =>
  images.reduce((text, image) => text.replaceAll(image, placeOf(image, data)), message);

/** The file that `placeOf` named, with the data folder where it is now; what is not there is looked for in the cache folder. */
export function fileAt(place: string, data: string | undefined): string {
  if (isAddress(place) || isAbsolute(place)) return place;
  const candidates = [...(data === undefined ? [] : [join(data, place)]), join(cacheFolder(process.env), place)];
  return candidates.find((path) => existsSync(path)) ?? candidates[0] ?? place;
}

/** Where the data folder was when the run of this file ended; undefined for runs that do not say. */
export async function dataFolderOf(samples: string): Promise<string | undefined> {
  try {
    const { data } = JSON.parse(await readFile(join(dirname(samples), 'timings.json'), 'utf8')) as { data?: unknown };
    return typeof data === 'string' ? data : undefined;
  } catch {
    return undefined;
  }
}
