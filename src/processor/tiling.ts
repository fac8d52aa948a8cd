import { z } from 'zod';
import { type ImageLayout, wholeImage } from '../model/image-layout.ts';

/** The size of an image in pixels. */
export interface ImageSize {
  readonly height: number;
  readonly width: number;
}

const pixels = z.int().positive();

/** Tiles of whichever resolution fits best: anyres of LLaVA-1.6 and LLaVA-OneVision (arXiv:2408.03326). */
const AnyRes = z.strictObject({
  type: z.literal('anyres'),
  /** The resolutions to choose from, as height and width. */
  pinpoints: z.array(z.tuple([pixels, pixels])).min(1),
  /** Features of more tiles than this are scaled down to as many, by the model. */
  maxTiles: z.int().positive().optional(),
  /** What is shown of each of several images: their tiles too, or, made square, the whole alone. */
  several: z.enum(['tiles', 'whole']).default('tiles'),
});

/** The grid of the nearest aspect ratio, which the image is stretched to: InternVL 1.5 (arXiv:2404.16821). */
const Dynamic = z
  .strictObject({ type: z.literal('dynamic'), minTiles: pixels.default(1), maxTiles: pixels.default(12) })
  .refine(({ minTiles, maxTiles }) => minTiles <= maxTiles, { error: 'minTiles is more than maxTiles' });

/** The image with its longest edge at this length, stretched to whole tiles: Idefics3 (arXiv:2408.12637) and SmolVLM. */
const Split = z.strictObject({
  type: z.literal('split'),
  longestEdge: pixels.default(1456),
  /** Off: only the whole is shown, resized to the longest edge first all the same. */
  tiles: z.boolean().default(true),
});

/** How images are cut into tiles beside the view of the whole. */
export const Tiling = z.discriminatedUnion('type', [AnyRes, Dynamic, Split]);
export type Tiling = z.output<typeof Tiling>;

/** Tiles of an image of this size, each a square of `side` pixels; `several` says that other images stand beside it. */
export function layoutOf(size: ImageSize, tiling: Tiling, { side, several }: { side: number; several: boolean }): ImageLayout {
  const { rows, columns } = gridOf(size, tiling, { side, several });
  return { rows, columns, ...size };
}

type Grid = Pick<ImageLayout, 'rows' | 'columns'>;

function gridOf(size: ImageSize, tiling: Tiling, { side, several }: { side: number; several: boolean }): Grid {
  if (tiling.type === 'anyres') {
    if (several && tiling.several === 'whole') return wholeImage;
    const [height, width] = bestPinpoint(size, tiling.pinpoints);
    return { rows: Math.ceil(height / side), columns: Math.ceil(width / side) };
  }
  if (tiling.type === 'split' && !tiling.tiles) return wholeImage;
  const grid = tiling.type === 'dynamic' ? nearestGrid(size, tiling, side) : wholeTiles(longestTo(size, tiling.longestEdge), side);
  return grid.rows * grid.columns === 1 ? wholeImage : grid;
}

/** The resolution that keeps most of the image's pixels and, among equals, wastes fewest of its own. */
function bestPinpoint(
  { height, width }: ImageSize,
  pinpoints: readonly (readonly [height: number, width: number])[],
): readonly [number, number] {
  const kept = ([h, w]: readonly [number, number]): number => {
    const scale = Math.min(w / width, h / height);
    return Math.min(Math.trunc(width * scale) * Math.trunc(height * scale), width * height);
  };
  const better = (a: readonly [number, number], b: readonly [number, number]): number =>
    kept(b) - kept(a) || a[0] * a[1] - kept(a) - (b[0] * b[1] - kept(b));
  return pinpoints.reduce((best, next) => (better(next, best) < 0 ? next : best));
}

/** The grid whose aspect ratio is nearest; of equal ones the larger, unless it has more than twice the image's pixels. */
function nearestGrid({ height, width }: ImageSize, { minTiles, maxTiles }: { minTiles: number; maxTiles: number }, side: number): Grid {
  const grids: Grid[] = [];
  for (let columns = 1; columns <= maxTiles; columns++) {
    for (let rows = 1; rows * columns <= maxTiles; rows++) if (rows * columns >= minTiles) grids.push({ rows, columns });
  }
  grids.sort((a, b) => a.rows * a.columns - b.rows * b.columns);
  let [best, least]: [Grid, number] = [{ rows: 1, columns: 1 }, Number.POSITIVE_INFINITY];
  for (const grid of grids) {
    const difference = Math.abs(width / height - grid.columns / grid.rows);
    const larger = difference === least && height * width > 0.5 * side * side * grid.rows * grid.columns;
    if (difference < least || larger) best = grid;
    least = Math.min(least, difference);
  }
  return best;
}

/** The longest edge at this length and the other in proportion, even, and neither above 4096. */
export function longestTo({ height, width }: ImageSize, longest: number): ImageSize {
  const ratio = width / height;
  const even = (value: number): number => value + (value % 2);
  const wide = width >= height;
  const scaled = wide
    ? { width: longest, height: Math.max(1, even(Math.trunc(longest / ratio))) }
    : { width: Math.max(1, even(Math.trunc(longest * ratio))), height: longest };
  if (longest <= mostPixels) return scaled;
  const bounded = scaled.width / scaled.height;
  return wide
    ? { width: mostPixels, height: Math.max(1, Math.trunc(mostPixels / bounded)) }
    : { width: Math.max(1, Math.trunc(mostPixels * bounded)), height: mostPixels };
}

const mostPixels = 4096;

/** The least whole number of tiles along the longer side, and along the other in proportion to that. */
function wholeTiles({ height, width }: ImageSize, side: number): Grid {
  const ratio = width / height;
  if (width >= height) {
    const columns = Math.ceil(width / side);
    return { rows: Math.max(1, Math.ceil(Math.trunc((columns * side) / ratio) / side)), columns };
  }
  const rows = Math.ceil(height / side);
  return { rows, columns: Math.max(1, Math.ceil(Math.trunc(rows * side * ratio) / side)) };
}

/** The largest size in proportion that fits into another, rounded up. */
export function fitInto({ height, width }: ImageSize, into: ImageSize): ImageSize {
  const [across, down] = [into.width / width, into.height / height];
  return across < down
    ? { height: Math.min(Math.ceil(height * across), into.height), width: into.width }
    : { height: into.height, width: Math.min(Math.ceil(width * down), into.width) };
}
