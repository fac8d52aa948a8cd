import { stat } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import sharp from 'sharp';

/** An image of a page: a small copy in the page itself or the file beside it, and the file. */
export interface Thumbnail {
  readonly src: string;
  readonly href: string;
}

const side = 200;
/** Small copies that a page holds; a copy has about 4 kB. */
const mostEmbedded = 1500;
const together = 8;

/** Thumbnails by the images' paths, for a page in `folder`: the first are in the page, further ones are linked relative to it. Images that cannot be read have none. */
export async function thumbnails(paths: Iterable<string>, folder: string, limit = mostEmbedded): Promise<Record<string, Thumbnail>> {
  const places = [...new Set(paths)];
  const found: (Thumbnail | undefined)[] = [];
  const waiting = places.entries();
  const work = async (): Promise<void> => {
    for (const [i, path] of waiting) {
      const href = relative(resolve(folder), resolve(path)).split('\\').join('/');
      const link = href.split('/').map(encodeURIComponent).join('/');
      const src = i < limit ? await smallCopy(path) : (await stat(path).catch(() => undefined)) && link;
      if (src !== undefined) found[i] = { src, href: link };
    }
  };
  await Promise.all(Array.from({ length: together }, work));
  // In the order of the images and not in that in which they were read, so that equal runs have equal pages.
  return Object.fromEntries(places.flatMap((path, i) => (found[i] ? [[path, found[i]]] : [])));
}

async function smallCopy(path: string): Promise<string | undefined> {
  try {
    const bytes = await sharp(path)
      .autoOrient()
      .resize(side, side, { fit: 'inside', withoutEnlargement: true })
      .webp({ quality: 70 })
      .toBuffer();
    return `data:image/webp;base64,${bytes.toString('base64')}`;
  } catch {
    return undefined;
  }
}
