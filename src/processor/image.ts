import { z } from 'zod';
import { ConfigError, DataError } from '../errors.ts';
import { full, tensor } from '../tensor/create.ts';
import { upsampleBicubicAa, upsampleBilinearAa } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ImageConfig, type ImageConfigInput, readImageConfig, writeImageConfig } from './image-config.ts';
import { decodeImage, nameOf, type RgbImage } from './image-decode.ts';
import type { ImageSource } from './message.ts';

/** A thin line enlarged to a shortest edge of some hundred pixels has more than this many, i.e. 0.8 GB. */
const pixelLimit = 1 << 28;

/** Images to the pixels that a vision tower was trained on, equal to transformers' CLIP, SigLIP and LLaVA image processors. */
export class ImageProcessor {
  readonly config: ImageConfig;
  /** The size that comes out. */
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

  /** Opens the image processor of a checkpoint folder. Throws CheckpointError. */
  static async open(folder: string): Promise<ImageProcessor> {
    return new ImageProcessor(await readImageConfig(folder));
  }

  /** Writes `preprocessor_config.json`. */
  async save(folder: string): Promise<void> {
    await writeImageConfig(folder, this.config);
  }

  /** One image as [3, H, W] float32. Throws DataError naming the file. */
  async load(source: ImageSource): Promise<Tensor> {
    const rgb = await decodeImage(source);
    using scope = new Scope();
    return scope.keep(this.normalize(this.resize(rgb, nameOf(source)).unsqueeze(0)).squeeze(0));
  }

  /** One image resized and cropped, as the bytes of [3, H, W]: what to keep of an image that is used again, a quarter of `load`'s memory. */
  async loadBytes(source: ImageSource): Promise<Uint8Array> {
    const rgb = await decodeImage(source);
    using _scope = new Scope();
    return this.resize(rgb, nameOf(source)).toArray() as Uint8Array;
  }

  /** Images from `loadBytes` as one [I, 3, H, W] float32. */
  stack(images: readonly Uint8Array[]): Tensor {
    using scope = new Scope();
    const size = 3 * this.height * this.width;
    const bytes = new Uint8Array(images.length * size);
    for (const [i, image] of images.entries()) bytes.set(image, i * size);
    return scope.keep(this.normalize(tensor(bytes, { shape: [images.length, 3, this.height, this.width] })));
  }

  /** Decoded pixels padded, resized and cropped as the configuration says: [3, H, W] uint8, contiguous. */
  resize(image: RgbImage, name = 'an image'): Tensor {
    using scope = new Scope();
    const { size, crop, resample } = this.config;
    const rgb = tensor(image.data, { shape: [image.height, image.width, 3] });
    const source = this.config.aspect === 'pad' ? this.#square(rgb) : rgb;
    const [H, W] = [source.size(0), source.size(1)];
    const [h, w] = 'shortestEdge' in size ? inProportion(H, W, size.shortestEdge) : [size.height, size.width];
    if (h * w > pixelLimit) {
      throw new DataError(`${name} is ${image.width} x ${image.height} pixels, which would become ${w} x ${h}`, {
        hint: 'crop it, or remove the rows that use it',
      });
    }
    const planes = source.permute(2, 0, 1).unsqueeze(0); // [1, 3, H, W] with channels-last strides, which Pillow's filter wants for bytes
    const upsample = resample === 'bilinear' ? upsampleBilinearAa : upsampleBicubicAa;
    const resized = h === H && w === W ? planes : upsample(planes, [h, w]);
    const cropped = crop
      ? resized.narrow(2, Math.floor((h - crop.height) / 2), crop.height).narrow(3, Math.floor((w - crop.width) / 2), crop.width)
      : resized;
    return scope.keep(cropped.squeeze(0).contiguous());
  }

  /** Bytes [I, 3, H, W] to the float32 values that the tower reads: rescaled, less the mean, over the deviation. */
  normalize(bytes: Tensor): Tensor {
    using scope = new Scope();
    const { rescale, mean, std } = this.config;
    const channels = (values: readonly number[]): Tensor => tensor(values, { shape: [1, 3, 1, 1] });
    return scope.keep(bytes.cast('float32').mul_(rescale).sub_(channels(mean)).div_(channels(std)));
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
