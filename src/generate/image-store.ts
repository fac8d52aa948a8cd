import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { type ImageLayout, viewsOf } from '../model/image-layout.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { ImageProcessor } from '../processor/image.ts';
import type { PlacedImage as Placed } from '../processor/processor.ts';
import { cat } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Place } from './prefix.ts';

/** An image that requests wait for or use: its pixels until it is encoded, its features from then on. */
export interface StoredImage {
  /** Equal for equal images that are cut in the same way. */
  readonly key: string;
  readonly layout: ImageLayout;
  /** [V, 3, H, W] */
  pixels: Tensor | undefined;
  /** [K, C] */
  features: Tensor | undefined;
  /** Requests that still need it. */
  uses: number;
  /** Settled once `pixels` are there. */
  readonly loaded: Promise<void>;
}

/** An image of a prompt. */
export interface PlacedImage extends Place {
  readonly image: StoredImage;
}

/** Views encoded at a time; more gain nothing and take memory. */
const encodedTogether = 8;

/** Decodes and encodes each distinct image once, and forgets the longest unused when there are more than `limit`. */
export class ImageStore {
  readonly #model: TinyLlava;
  readonly #processor: { readonly image: ImageProcessor };
  readonly #limit: number;
  readonly #images = new Map<string, StoredImage>();

  constructor(model: TinyLlava, processor: { readonly image: ImageProcessor }, { limit = 32 }: { limit?: number } = {}) {
    this.#model = model;
    this.#processor = processor;
    this.#limit = limit;
  }

  /** Images in the order given, decoded and held until `release`. Throws DataError for one that cannot be read. */
  async acquire(placed: readonly Placed[]): Promise<PlacedImage[]> {
    const keys = await Promise.all(placed.map(imageKey));
    const images = placed.map(({ start, end, ...image }, i) => ({ start, end, image: this.#image(keys[i] ?? '', image) }));
    for (const { image } of images) image.uses += 1;
    const outcomes = await Promise.allSettled(images.map(({ image }) => image.loaded));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (!failed) return images;
    this.release(images);
    throw failed.reason;
  }

  /** Ends the use of images that `acquire` gave, once each. */
  release(images: readonly PlacedImage[]): void {
    for (const { image } of images) image.uses -= 1;
    for (const image of this.#images.values()) {
      if (this.#images.size <= this.#limit) return;
      if (image.uses === 0) this.#forget(image);
    }
  }

  /** What stands for the images in the language model, [K, C]; undefined for none. Encodes those that are new. */
  features(images: readonly StoredImage[]): Tensor | undefined {
    if (images.length === 0) return undefined;
    const fresh = [...new Set(images)].filter(({ features }) => features === undefined);
    let [group, views]: [StoredImage[], number] = [[], 0];
    for (const image of fresh) {
      if (views + viewsOf(image.layout) > encodedTogether && group.length > 0) {
        this.#encode(group);
        [group, views] = [[], 0];
      }
      group.push(image);
      views += viewsOf(image.layout);
    }
    if (group.length > 0) this.#encode(group);
    return cat(images.flatMap(({ features }) => features ?? []));
  }

  /** Gives the memory of all images back. */
  free(): void {
    for (const image of this.#images.values()) this.#forget(image);
  }

  #image(key: string, shown: Shown): StoredImage {
    const known = this.#images.get(key);
    // A map keeps its order: what is asked for again moves to the end.
    if (known) this.#images.delete(key);
    const image = known ?? this.#load(key, shown);
    this.#images.set(key, image);
    return image;
  }

  #load(key: string, { source, layout }: Shown): StoredImage {
    const loaded = this.#processor.image.load(source, layout).then(
      (pixels) => {
        image.pixels = pixels;
      },
      (reason: unknown) => {
        // The next request tries again: the file may be there by then.
        if (this.#images.get(key) === image) this.#images.delete(key);
        throw reason;
      },
    );
    const image: StoredImage = { key, layout, pixels: undefined, features: undefined, uses: 0, loaded };
    return image;
  }

  #encode(images: readonly StoredImage[]): void {
    using _scope = new Scope();
    const { device } = this.#model.languageModel.headWeight;
    const pixels = cat(images.flatMap(({ pixels }) => pixels ?? [])).to({ device });
    const layouts = images.map(({ layout }) => layout);
    for (const [i, features] of this.#model.imageEmbeddings(this.#model.encodeImages(pixels), layouts).entries()) {
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

/** An image and how it is cut. */
type Shown = Pick<Placed, 'source' | 'layout'>;

/** A file by its path and when it changed, everything else by its content; and how it is cut. */
async function imageKey({ source, layout: { rows, columns } }: Shown): Promise<string> {
  const grid = `${rows} x ${columns}`;
  if (typeof source !== 'string' || source.startsWith('data:')) return `${createHash('sha256').update(source).digest('hex')}\n${grid}`;
  const found = await stat(source).catch(() => undefined);
  return found ? `${source}\n${found.mtimeMs}\n${found.size}\n${grid}` : `${source}\n${grid}`;
}
