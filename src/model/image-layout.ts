/**
 * How one image is shown to the vision tower: the whole of it in one view and, for high resolution, `rows` x `columns` tiles besides. A
 * layout without tiles has 0 x 0.
 */
export interface ImageLayout {
  readonly rows: number;
  readonly columns: number;
  /** The image's own size in pixels; 0 where nothing depends on it. */
  readonly height: number;
  readonly width: number;
}

/** The layout of an image that is shown as a whole alone, whatever its size. */
export const wholeImage: ImageLayout = { rows: 0, columns: 0, height: 0, width: 0 };

/** How many views a layout has: its tiles and the whole image. */
export const viewsOf = ({ rows, columns }: ImageLayout): number => rows * columns + 1;
