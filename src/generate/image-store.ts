import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { ImageProcessor } from '../processor/image.ts';
import type { ImageSource } from '../processor/message.ts';
import { stack } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** An image that requests wait for or use: its pixels until it is encoded, its features from then on. */
export interface StoredImage {
  /** Equal for equal images. */
  readonly key: string;
  /** [3, H, W] */
  pixels: Tensor | undefined;
  /** [M, C] */
  features: Tensor | undefined;
  /** Requests that still need it. */
  uses: number;
  /** Settled once `pixels` are there. */
  readonly loaded: Promise<void>;
}

/** Images encoded at a time; more gain nothing and take memory. */
const encodedTogether = 8;

/** Decodes and encodes each distinct image once, and forgets the longest unused when there are more than `limit`. */
export class ImageStore {
  readonly #model: TinyLlava;
  readonly #processor: ImageProcessor;
  readonly #limit: number;
  readonly #images = new Map<string, StoredImage>();

  constructor(model: TinyLlava, processor: ImageProcessor, { limit = 32 }: { limit?: number } = {}) {
    this.#model = model;
    this.#processor = processor;
    this.#limit = limit;
  }

  /** Images in the order given, decoded and held until `release`. Throws DataError for one that cannot be read. */
  async acquire(sources: readonly ImageSource[]): Promise<StoredImage[]> {
    const keys = await Promise.all(sources.map(imageKey));
    const images = sources.map((source, i) => this.#image(keys[i] ?? '', source));
    for (const image of images) image.uses += 1;
    const outcomes = await Promise.allSettled(images.map(({ loaded }) => loaded));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (!failed) return images;
    this.release(images);
    throw failed.reason;
  }

  /** Ends the use of images that `acquire` gave, once each. */
  release(images: readonly StoredImage[]): void {
    for (const image of images) image.uses -= 1;
    for (const image of this.#images.values()) {
      if (this.#images.size <= this.#limit) return;
      if (image.uses === 0) this.#forget(image);
    }
  }

  /** What stands for the images in the language model, [I, M, C]; undefined for none. Encodes those that are new. */
  features(images: readonly StoredImage[]): Tensor | undefined {
    if (images.length === 0) return undefined;
    const fresh = [...new Set(images)].filter(({ features }) => features === undefined);
    for (let start = 0; start < fresh.length; start += encodedTogether) this.#encode(fresh.slice(start, start + encodedTogether));
    return stack(images.flatMap(({ features }) => features ?? []));
  }

  /** Gives the memory of all images back. */
  free(): void {
    for (const image of this.#images.values()) this.#forget(image);
  }

  #image(key: string, source: ImageSource): StoredImage {
    const known = this.#images.get(key);
    // A map keeps its order: what is asked for again moves to the end.
    if (known) this.#images.delete(key);
    const image = known ?? this.#load(key, source);
    this.#images.set(key, image);
    return image;
  }

  #load(key: string, source: ImageSource): StoredImage {
    const loaded = this.#processor.load(source).then(
      (pixels) => {
        image.pixels = pixels;
      },
      (reason: unknown) => {
        // The next request tries again: the file may be there by then.
        if (this.#images.get(key) === image) this.#images.delete(key);
        throw reason;
      },
    );
    const image: StoredImage = { key, pixels: undefined, features: undefined, uses: 0, loaded };
    return image;
  }

  #encode(images: readonly StoredImage[]): void {
    using _scope = new Scope();
    const { device } = this.#model.languageModel.headWeight;
    const pixels = stack(images.flatMap(({ pixels }) => pixels ?? [])).to({ device });
    for (const [i, features] of this.#model.encodeImages(pixels).unbind(0).entries()) {
      const image = images[i];
      if (!image) continue;
      // A copy of its own: a view would hold the features of all.
      image.features = Scope.release(features.clone());
      image.pixels?.free();
      image.pixels = undefined;
    }
  }

  #forget(image: StoredImage): void {
    image.pixels?.free();
    image.features?.free();
    image.pixels = undefined;
    image.features = undefined;
    this.#images.delete(image.key);
  }
}

/** A file by its path and when it changed, everything else by its content. */
async function imageKey(source: ImageSource): Promise<string> {
  if (typeof source !== 'string' || source.startsWith('data:')) return createHash('sha256').update(source).digest('hex');
  const found = await stat(source).catch(() => undefined);
  return found ? `${source}\n${found.mtimeMs}\n${found.size}` : source;
}
