import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { DataError } from '../errors.ts';
import { readError } from '../read-error.ts';
import type { ImageSource } from './message.ts';

/** Decoded pixels, 3 bytes each, row after row. */
export interface RgbImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

// files change under us in tests and in data preparation, and nothing here is decoded twice in a row
sharp.cache(false);

/**
 * Decodes an image off the main thread to what Pillow's `ImageOps.exif_transpose(image).convert('RGB')` gives: the EXIF orientation is applied, alpha is dropped (not
 * blended), grey and palettes are spread to RGB, 16-bit values keep their high byte, CMYK is converted without a profile, colour profiles are ignored,
 * an animation gives its first frame. Throws DataError naming the file when it is missing, empty, truncated, or not an image,
 * and none when the system fails to read it.
 */
export async function decodeImage(source: ImageSource): Promise<RgbImage> {
  return reading(source, async (bytes) => {
    const { space } = await sharp(bytes, options).metadata();
    const image = sharp(bytes, options).autoOrient();
    if (space === 'cmyk')
      return withoutInks(
        await image.pipelineColourspace('cmyk').toColourspace('cmyk').raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true }),
      );
    const { data, info } = await image.removeAlpha().toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  });
}

/** The size that `decodeImage` would give, from the image's header. Throws DataError as it does. */
export async function sizeOfImage(source: ImageSource): Promise<{ height: number; width: number }> {
  return reading(source, async (bytes) => {
    const { autoOrient } = await sharp(bytes, options).metadata();
    return { height: autoOrient.height, width: autoOrient.width };
  });
}

const options = { failOn: 'error', ignoreIcc: true } as const;

async function reading<Read>(source: ImageSource, read: (bytes: Uint8Array) => Promise<Read>): Promise<Read> {
  const name = nameOf(source);
  const bytes = await bytesOf(source, name);
  if (bytes.length === 0) throw new DataError(`${name} is empty (0 bytes)`, { hint: 'fetch it again, or leave it out' });
  try {
    return await read(bytes);
  } catch (cause) {
    // What libvips says beside it is in a buffer of all threads, and so depends on what else is decoded at the time.
    const reason = /^Input (?:buffer|image)[^:]*/.exec((cause as Error).message)?.[0] ?? 'its pixels are cut off or broken';
    throw new DataError(`${name} cannot be decoded as an image: ${reason}`, {
      hint: reason.includes('pixel limit')
        ? 'save it smaller: more than 268 million pixels are not decoded'
        : 'fetch it again if it is cut off, convert it to PNG or JPEG if its format is unknown, or leave it out',
      cause,
    });
  }
}

/** What an image is called in messages: its path, or what kind of bytes it is. */
export function nameOf(source: ImageSource): string {
  if (typeof source !== 'string') return `an image of ${source.length} bytes`;
  return source.startsWith('data:') ? `the image in a data: URL (${source.slice(0, 30)}…)` : source;
}

/** Whether an image is named by where it is on the web, from where nothing is fetched. */
export const isWebAddress = (source: string): boolean => /^https?:\/\//.test(source);

async function bytesOf(source: ImageSource, name: string): Promise<Uint8Array> {
  if (typeof source !== 'string') return source;
  if (source.startsWith('data:')) {
    const match = /^data:[^,]*;base64,/.exec(source.slice(0, 200));
    if (!match) throw new DataError(`${name} is not base64`, { hint: 'write it as data:image/png;base64,…' });
    return Buffer.from(source.slice(match[0].length), 'base64');
  }
  if (isWebAddress(source)) throw new DataError(`${name} is a web address`, { hint: 'download the image and give its path' });
  try {
    return await readFile(source);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw readError(missing ? `${name} does not exist` : `${name} cannot be read: ${(cause as Error).message}`, {
      hint: 'check the path; in a data file it starts at the image folder',
      cause,
    });
  }
}

/** Cyan, magenta, yellow and black to red, green and blue as Pillow does it. */
function withoutInks({ data, info }: { data: Uint8Array; info: { width: number; height: number } }): RgbImage {
  const rgb = new Uint8Array(info.width * info.height * 3);
  for (let pixel = 0; pixel < info.width * info.height; pixel++) {
    const light = 255 - (data[pixel * 4 + 3] ?? 0);
    for (let channel = 0; channel < 3; channel++) {
      const product = (data[pixel * 4 + channel] ?? 0) * light + 128;
      rgb[pixel * 3 + channel] = Math.max(0, light - ((product + (product >> 8)) >> 8));
    }
  }
  return { data: rgb, width: info.width, height: info.height };
}
