/** What an image may become. */
export interface NaflexLimits {
  /** Side of a patch in pixels. */
  readonly patchSize: number;
  /** The most patches of one image. */
  readonly maxPatches: number;
}

const precision = 1e-5;

/**
 * The size to resize an image to, so that it has as many patches as are allowed and nearly keeps its shape: both sides are multiples of the patch. Equals
 * transformers' Siglip2ImageProcessor, whose search for the scale ends at 0.00001. Tschannen et al. 2025, arXiv:2502.14786.
 */
export function naflexSize(
  [height, width]: readonly [number, number],
  { patchSize, maxPatches }: NaflexLimits,
): [height: number, width: number] {
  const patches = (size: number, scale: number): number => Math.max(1, Math.ceil((size * scale) / patchSize));
  let [low, high] = [precision / 10, 100];
  while (high - low >= precision) {
    const scale = (low + high) / 2;
    if (patches(height, scale) * patches(width, scale) <= maxPatches) low = scale;
    else high = scale;
  }
  return [patches(height, low) * patchSize, patches(width, low) * patchSize];
}
