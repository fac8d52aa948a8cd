import { z } from 'zod';
import { ConfigError, DataError } from '../errors.ts';
import { type ImageLayout, viewsOf, wholeImage } from '../model/image-layout.ts';
import { cat, full, tensor } from '../tensor/create.ts';
import { pad, upsampleBicubicAa, upsampleBilinearAa, upsampleLanczosAa } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ImageConfig, type ImageConfigInput, readImageConfig, writeImageConfig } from './image-config.ts';
import { decodeImage, nameOf, type RgbImage, sizeOfImage } from './image-decode.ts';
import type { ImageRequest, ImageSource } from './message.ts';
import { fitInto, type ImageSize, layoutOf, longestTo } from './tiling.ts';

/** A thin line enlarged to a shortest edge of some hundred pixels has more than this many, i.e. 0.8 GB. */
const pixelLimit = 1 << 28;

const resizers = { lanczos: upsampleLanczosAa, bilinear: upsampleBilinearAa, bicubic: upsampleBicubicAa };

/**
 * Images to the pixels that a vision tower was trained on, equal to transformers' CLIP, SigLIP, LLaVA, LLaVA-NeXT, LLaVA-OneVision, Idefics3
 * and GOT-OCR2 image processors. Dims: V views of an image, H and W their size.
 */
export class ImageProcessor {
  readonly config: ImageConfig;
  /** The size of a view. */
  readonly height: number;
  readonly width: number;

  /** Throws ConfigError. */
  constructor(config: ImageConfigInput) {
    const parsed = ImageConfig.safeParse(config);
    if (!parsed.success) throw new ConfigError(`image processor: ${z.prettifyError(parsed.error)}`, { cause: parsed.error });
    this.config = parsed.data;
    const { size, crop } = this.config;
    this.height = crop?.height ?? ('height' in size ? size.height : size.shortestEdge);
    this.width = crop?.width ?? ('width' in size ? size.width : size.shortestEdge);
  }

  /** Opens the image processor of a checkpoint folder; `instead` is what to read where it has no file. Throws CheckpointError. */
  static async open(folder: string, instead?: Record<string, unknown>): Promise<ImageProcessor> {
    return new ImageProcessor(await readImageConfig(folder, instead));
  }

  /** Writes `preprocessor_config.json`. */
  async save(folder: string): Promise<void> {
    await writeImageConfig(folder, this.config);
  }

  /** How each image of a conversation is shown. Files are opened for their sizes only where tiles depend on it. Throws DataError. */
  async layouts(images: readonly ImageRequest[]): Promise<ImageLayout[]> {
    const { tiling } = this.config;
    if (!tiling) return images.map(() => wholeImage);
    const how = { side: this.height, several: images.length > 1 };
    return Promise.all(images.map(async ({ source, whole }) => (whole ? wholeImage : layoutOf(await sizeOfImage(source), tiling, how))));
  }

  /** The views of one image as [V, 3, H, W] float32. Throws DataError naming the file. */
  async load(source: ImageSource, layout: ImageLayout = wholeImage): Promise<Tensor> {
    const rgb = await decodeImage(source);
    using scope = new Scope();
    return scope.keep(this.normalize(this.views(rgb, layout, nameOf(source))));
  }

  /** The views of one image as the bytes of [V, 3, H, W]: what to keep of an image that is used again, a quarter of `load`'s memory. */
  async loadBytes(source: ImageSource, layout: ImageLayout = wholeImage): Promise<Uint8Array> {
    const rgb = await decodeImage(source);
    using _scope = new Scope();
    return this.views(rgb, layout, nameOf(source)).toArray() as Uint8Array;
  }

  /** The views of images from `loadBytes`, all together as one [V, 3, H, W] float32. */
  stack(images: readonly Uint8Array[]): Tensor {
    using scope = new Scope();
    const bytes = images.length === 1 && images[0] ? images[0] : Buffer.concat(images);
    const views = bytes.length / (3 * this.height * this.width);
    return scope.keep(this.normalize(tensor(bytes, { shape: [views, 3, this.height, this.width] })));
  }

  /** Decoded pixels as the configuration says: [V, 3, H, W] uint8, contiguous; the whole image first, or last where its family has it so. */
  views(image: RgbImage, layout: ImageLayout = wholeImage, name = 'an image'): Tensor {
    using scope = new Scope();
    const rgb = tensor(image.data, { shape: [image.height, image.width, 3] });
    if (layout.rows === 0) return scope.keep(this.#whole(rgb, name));
    // [1, 3, H, W] with channels-last strides, which Pillow's filter wants for bytes
    const planes = rgb.permute(2, 0, 1).unsqueeze(0);
    const { tiling } = this.config;
    const side = this.height;
    const canvas = { height: layout.rows * side, width: layout.columns * side };
    const sized = tiling?.type === 'split' ? this.#resize(planes, longestTo(image, tiling.longestEdge)) : planes;
    const picture = tiling?.type === 'anyres' ? this.#centred(sized, canvas) : this.#resize(sized, canvas);
    const tiles = picture
      .reshape(3, layout.rows, side, layout.columns, side)
      .permute(1, 3, 0, 2, 4)
      .reshape(viewsOf(layout) - 1, 3, side, side);
    const whole = this.#resize(tiling?.type === 'split' ? picture : planes, { height: side, width: side });
    return scope.keep(cat(tiling?.type === 'anyres' ? [whole, tiles] : [tiles, whole]).contiguous());
  }

  /** Bytes [V, 3, H, W] to the float32 values that the tower reads: rescaled, less the mean, over the deviation. */
  normalize(bytes: Tensor): Tensor {
    using scope = new Scope();
    const { rescale, mean, std } = this.config;
    const channels = (values: readonly number[]): Tensor => tensor(values, { shape: [1, 3, 1, 1] });
    return scope.keep(bytes.cast('float32').mul_(rescale).sub_(channels(mean)).div_(channels(std)));
  }

  /** One view of [H, W, 3]: padded, resized and cropped as the configuration says. */
  #whole(rgb: Tensor, name: string): Tensor {
    const { size, crop, aspect, tiling } = this.config;
    // anyres stretches an image that has tiles, and only what has none is made square.
    const source = aspect === 'pad' || tiling?.type === 'anyres' ? this.#square(rgb) : rgb;
    const [H, W] = [source.size(0), source.size(1)];
    const [h, w] = 'shortestEdge' in size ? inProportion(H, W, size.shortestEdge) : [size.height, size.width];
    if (h * w > pixelLimit) {
      throw new DataError(`${name} is ${rgb.size(1)} x ${rgb.size(0)} pixels, which would become ${w} x ${h}`, {
        hint: 'crop it, or remove the rows that use it',
      });
    }
    const planes = source.permute(2, 0, 1).unsqueeze(0);
    const sized = tiling?.type === 'split' ? this.#resize(planes, longestTo({ height: H, width: W }, tiling.longestEdge)) : planes;
    const resized = this.#resize(sized, { height: h, width: w });
    const cropped = crop
      ? resized.narrow(2, Math.floor((h - crop.height) / 2), crop.height).narrow(3, Math.floor((w - crop.width) / 2), crop.width)
      : resized;
    return cropped.contiguous();
  }

  /** [1, 3, H, W] at another size. */
  #resize(planes: Tensor, { height, width }: ImageSize): Tensor {
    if (planes.size(2) === height && planes.size(3) === width) return planes;
    return resizers[this.config.resample](planes, [height, width]);
  }

  /** [1, 3, H, W] in proportion on the middle of a black canvas. */
  #centred(planes: Tensor, canvas: ImageSize): Tensor {
    const fitted = fitInto({ height: planes.size(2), width: planes.size(3) }, canvas);
    const [across, down] = [canvas.width - fitted.width, canvas.height - fitted.height];
    const [left, top] = [Math.floor(across / 2), Math.floor(down / 2)];
    return pad(this.#resize(planes, fitted), [left, across - left, top, down - top]);
  }

  /** Expands [H, W, 3] to a square with the mean colour, the image in the middle, as LLaVA's expand2square (its colour is rounded down). */
  #square(rgb: Tensor): Tensor {
    const [H, W] = [rgb.size(0), rgb.size(1)];
    if (H === W) return rgb;
    const side = Math.max(H, W);
    const square = full([side, side, 3], 0, { dtype: 'uint8' });
    square.copy_(tensor(Uint8Array.from(this.config.mean, (value) => Math.trunc(value * 255))));
    const offset = Math.floor((side - Math.min(H, W)) / 2);
    square.narrow(H < W ? 0 : 1, offset, Math.min(H, W)).copy_(rgb);
    return square;
  }
}

function inProportion(height: number, width: number, edge: number): [number, number] {
  return height <= width ? [edge, Math.trunc((edge * width) / height)] : [Math.trunc((edge * height) / width), edge];
}
