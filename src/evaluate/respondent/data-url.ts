import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { decodeImage } from '../../processor/image-decode.ts';
import type { ImageSource } from '../../processor/message.ts';

/** How files begin that servers take as they are. */
const taken: readonly (readonly [type: string, begins: RegExp])[] = [
  ['image/png', /^\x89PNG/],
  ['image/jpeg', /^\xff\xd8\xff/],
  ['image/webp', /^RIFF.{4}WEBP/s],
];

/** An image as a `data:` URL; other kinds than PNG, JPEG and WebP become PNG. Throws DataError for one that cannot be decoded, as a model here would. */
export async function imageDataUrl(source: ImageSource): Promise<string> {
  const { data, width, height } = await decodeImage(source);
  if (typeof source === 'string' && source.startsWith('data:')) return source;
  const bytes = typeof source === 'string' ? await readFile(source) : Buffer.from(source);
  const start = bytes.toString('latin1', 0, 12);
  const type = taken.find(([, begins]) => begins.test(start))?.[0];
  if (type !== undefined) return `data:${type};base64,${bytes.toString('base64')}`;
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  return `data:image/png;base64,${png.toString('base64')}`;
}
