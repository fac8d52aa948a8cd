import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { DataError } from '../../errors.ts';

/** The side of a picture in pixels: what the tower takes. */
const side = 224;

/** How a picture is shown: mirrored, turned by degrees, its side as a share of the paper's. */
export interface View {
  readonly mirrored?: boolean;
  readonly degrees?: number;
  readonly share?: number;
}

const white = { r: 255, g: 255, b: 255 };

/** Draws a PNG or SVG on white paper of 224 x 224 pixels, whole and in its proportions. Throws DataError naming the file. */
export async function draw(file: string, { mirrored = false, degrees = 0, share = 1 }: View = {}): Promise<Buffer> {
  try {
    const { format, width = side, height = side } = await sharp(file).metadata();
    // vectors are drawn at the size that they are shown in; sharp wants that as dots per inch
    const density = format === 'svg' ? Math.min(2400, Math.max(1, Math.ceil((72 * side) / Math.max(width, height)))) : 72;
    const inner = Math.round(side * share);
    const upright = sharp(file, { density }).flatten({ background: white }).flop(mirrored).rotate(degrees, { background: white });
    const fitted = await upright.resize(inner, inner, { fit: 'contain', background: white }).png().toBuffer();
    const [before, after] = [Math.floor((side - inner) / 2), Math.ceil((side - inner) / 2)];
    const margins = { top: before, bottom: after, left: before, right: after, background: white };
    return await sharp(fitted).extend(margins).removeAlpha().toColourspace('srgb').png().toBuffer();
  } catch (cause) {
    throw new DataError(`${file} cannot be drawn: ${(cause as Error).message}`, { hint: 'fetch the pictures again', cause });
  }
}

/** Writes `draw`'s picture below `folder`. */
export async function drawInto(folder: string, name: string, file: string, view: View = {}): Promise<void> {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  await sharp(await draw(file, view)).toFile(path);
}

const cells = 16;

/** Whether each cell of a 16 x 16 grid is brighter than its right neighbour: alike for pictures that look alike, 256 bits as 0 and 1. */
export async function perceptualHash(picture: Buffer): Promise<Uint8Array> {
  const grey = await sharp(picture)
    .greyscale()
    .resize(cells + 1, cells, { fit: 'fill' })
    .raw()
    .toBuffer();
  return Uint8Array.from({ length: cells ** 2 }, (_, i) => {
    const at = Math.floor(i / cells) * (cells + 1) + (i % cells);
    return (grey[at] ?? 0) > (grey[at + 1] ?? 0) ? 1 : 0;
  });
}
