import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import { normal } from '../nn/init.ts';
import { Module, parameter } from '../nn/module.ts';
import { cat } from '../tensor/create.ts';
import { upsampleBilinear } from '../tensor/functional.ts';
import { sizes } from '../tensor/sizes.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type ImageLayout, viewsOf } from './image-layout.ts';
import { check } from './registry.ts';

const pixels = z.int().positive();

/**
 * Settings of the `unpad` arrangement, anyres of LLaVA-1.6 (https://llava-vl.github.io/blog/2024-01-30-llava-next/) and LLaVA-OneVision
 * (arXiv:2408.03326).
 */
export const ArrangementConfig = z.strictObject({
  type: z.literal('unpad'),
  /** The resolutions that images are fitted into, as height and width in pixels. */
  pinpoints: z.array(z.tuple([pixels, pixels])).min(1),
  /** Features of more tiles than this are scaled down to as many. */
  maxTiles: z.int().positive().optional(),
});
export type ArrangementConfig = z.output<typeof ArrangementConfig>;

/** The settings of an arrangement. Throws ConfigError. */
export const parseArrangement = (config: unknown, where: string): ArrangementConfig => check(ArrangementConfig, config, { where });

/** Rows and columns of tokens that are left of a grid of tiles, and how many rows or columns of padding come off each side. */
interface Unpadded {
  readonly rows: number;
  readonly columns: number;
  readonly cutRows: number;
  readonly cutColumns: number;
}

/**
 * What an image's views become in the text: the whole image's embeddings, then those of its tiles put together as one picture, less the rows or
 * columns that only padding filled, a learned token behind each row. Dims: V views, M embeddings of a view, C width.
 */
export class Unpad extends Module {
  readonly imageNewline: Tensor;
  readonly #side: number;
  readonly #maxTiles: number | undefined;

  /** Throws ConfigError unless the tokens of a view are a square. */
  constructor({ maxTiles }: ArrangementConfig, { viewTokens, width }: { viewTokens: number; width: number }) {
    super();
    this.#side = Math.sqrt(viewTokens);
    this.#maxTiles = maxTiles;
    if (!Number.isInteger(this.#side)) {
      throw new ConfigError(`unpad: ${viewTokens} tokens of a view are no square`, {
        hint: 'use a connector that keeps the grid of patches',
      });
    }
    this.imageNewline = parameter([width], normal(width ** -0.5));
  }

  /** How many embeddings an image of this layout takes. */
  tokens(layout: ImageLayout): number {
    const whole = this.#side ** 2;
    if (layout.rows === 0) return whole + 1;
    const { rows, columns } = this.#fitted(this.#unpadded(layout));
    return whole + rows * (columns + 1);
  }

  /** `views` [V, M, C] of one image, the whole first, to its embeddings [K, C]. Throws ShapeError. */
  forward(views: Tensor, layout: ImageLayout): Tensor {
    const [, , C] = sizes(views, 'V M C', { V: viewsOf(layout), M: this.#side ** 2 });
    const newline = this.imageNewline.cast(views.dtype);
    const whole = views.select(0, 0);
    if (layout.rows === 0) return cat([whole, newline.unsqueeze(0)]);
    const side = this.#side;
    const grid = views
      .narrow(0, 1, layout.rows * layout.columns)
      .reshape(layout.rows, layout.columns, side, side, C)
      .permute(4, 0, 2, 1, 3)
      .reshape(C, layout.rows * side, layout.columns * side);
    const cut = this.#unpadded(layout);
    const picture = grid.narrow(1, cut.cutRows, cut.rows).narrow(2, cut.cutColumns, cut.columns); // [C, rows, columns]
    const { rows, columns } = this.#fitted(cut);
    const fitted = rows === cut.rows ? picture : upsampleBilinear(picture.unsqueeze(0), [rows, columns]).squeeze(0);
    const lines = cat([fitted, newline.reshape(C, 1, 1).expand(C, rows, 1)], 2);
    return cat([whole, lines.flatten(1).transpose(0, 1)]);
  }

  /** What is left of the grid when the image, fitted into it in proportion and centred, loses what lies around it. */
  #unpadded({ rows: tileRows, columns: tileColumns, height, width }: ImageLayout): Unpadded {
    const [rows, columns] = [tileRows * this.#side, tileColumns * this.#side];
    if (width / height > columns / rows) {
      const cutRows = Math.floor((rows - scaled(height, columns / width)) / 2);
      return { rows: rows - 2 * cutRows, columns, cutRows, cutColumns: 0 };
    }
    const cutColumns = Math.floor((columns - scaled(width, rows / height)) / 2);
    return { rows, columns: columns - 2 * cutColumns, cutRows: 0, cutColumns };
  }

  #fitted({ rows, columns }: Unpadded): { rows: number; columns: number } {
    const ratio = this.#maxTiles === undefined ? 1 : Math.sqrt((rows * columns) / (this.#maxTiles * this.#side ** 2));
    return ratio > 1.1 ? { rows: Math.floor(rows / ratio), columns: Math.floor(columns / ratio) } : { rows, columns };
  }
}

/** A side at this scale, cut to whole tokens; what is within 1e-7 of the next one is that, as in transformers. */
const scaled = (side: number, scale: number): number => Math.trunc(Number((side * scale).toFixed(7)));
