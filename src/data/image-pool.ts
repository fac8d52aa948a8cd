import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { TinyLlavaError } from '../errors.ts';
import { type ImageLayout, viewsOf, wholeImage } from '../model/image-layout.ts';
import type { ImageProcessor } from '../processor/image.ts';
import type { ImageSource } from '../processor/message.ts';
import { receivedError, startThread } from '../thread.ts';
import type { ImageJob, ImageResult } from './image-worker.ts';

/** How a pool works. */
export interface ImagePoolOptions {
  /** Threads that decode and resize, one for each other core up to 4; 0 does it in the calling thread, which a training step blocks. */
  readonly workers?: number;
  /** Processed images to keep for when they come again, in bytes (256 MiB): the longest unused go first. */
  readonly cacheBytes?: number;
}

interface Cached {
  readonly loaded: Promise<Uint8Array>;
  readonly views: number;
}

interface Waiting {
  readonly worker: Worker;
  resolve(bytes: Uint8Array): void;
  reject(error: Error): void;
}

/** Loads images as bytes of [V, 3, H, W], off the calling thread, each once at a time. */
export class ImagePool implements AsyncDisposable {
  readonly #processor: ImageProcessor;
  readonly #workerCount: number;
  readonly #cacheBytes: number;
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<number, Waiting>();
  /** Paths with how they are cut, in the order of their last use. */
  readonly #cache = new Map<string, Cached>();
  #jobs = 0;
  #closed = false;

  constructor(processor: ImageProcessor, { workers = otherCores(), cacheBytes = 2 ** 28 }: ImagePoolOptions = {}) {
    this.#processor = processor;
    this.#workerCount = workers;
    this.#cacheBytes = cacheBytes;
  }

  /** The bytes of an image's views; not to be written to. Throws DataError naming the file, unless the system has failed. */
  load(source: ImageSource, layout: ImageLayout = wholeImage): Promise<Uint8Array> {
    if (typeof source !== 'string' || source.startsWith('data:')) return this.#load(source, layout);
    const key = `${layout.rows} x ${layout.columns} ${source}`;
    // images on their way are shared even without a cache
    const known = this.#cache.get(key);
    const image = known ?? { loaded: this.#load(source, layout), views: viewsOf(layout) };
    this.#cache.delete(key);
    this.#cache.set(key, image);
    if (!known) {
      image.loaded.then(
        () => this.#trim(key),
        () => this.#cache.delete(key),
      );
    }
    return image.loaded;
  }

  /** Ends the threads; what is still on its way fails. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cache.clear();
    for (const { reject } of this.#waiting.values()) reject(new TinyLlavaError('the image pool was closed'));
    this.#waiting.clear();
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #trim(loaded: string): void {
    if (this.#cacheBytes === 0) {
      this.#cache.delete(loaded);
      return;
    }
    const limit = Math.floor(this.#cacheBytes / (3 * this.#processor.height * this.#processor.width));
    let views = 0;
    for (const image of this.#cache.values()) views += image.views;
    for (const [key, image] of this.#cache) {
      if (views <= limit) return;
      this.#cache.delete(key);
      views -= image.views;
    }
  }

  #load(source: ImageSource, layout: ImageLayout): Promise<Uint8Array> {
    if (this.#closed) return Promise.reject(new TinyLlavaError('the image pool was closed'));
    if (this.#workerCount === 0) return this.#processor.loadBytes(source, layout);
    const id = this.#jobs++;
    const worker = this.#workers[id % this.#workerCount] ?? this.#start();
    return new Promise((resolve, reject) => {
      if (this.#waiting.size === 0) for (const idle of this.#workers) idle.ref();
      this.#waiting.set(id, { worker, resolve, reject });
      worker.postMessage({ id, source, layout } satisfies ImageJob);
    });
  }

  #start(): Worker {
    const worker = startThread(import.meta.url, 'image-worker', this.#processor.config);
    worker.on('message', (result: ImageResult) => {
      const job = this.#waiting.get(result.id);
      this.#waiting.delete(result.id);
      if (this.#waiting.size === 0) for (const idle of this.#workers) idle.unref(); // idle threads do not keep the process alive
      if ('bytes' in result) job?.resolve(result.bytes);
      else job?.reject(receivedError(result.error));
    });
    worker.on('error', (cause) =>
      this.#lose(worker, new TinyLlavaError(`the thread that loads images failed: ${(cause as Error).message}`, { cause })),
    );
    worker.on('exit', () =>
      this.#lose(worker, new TinyLlavaError('the thread that loads images ended', { hint: 'it may have run out of memory' })),
    );
    this.#workers.push(worker);
    return worker;
  }

  #lose(worker: Worker, error: TinyLlavaError): void {
    const at = this.#workers.indexOf(worker);
    if (at >= 0) this.#workers.splice(at, 1);
    for (const [id, job] of this.#waiting) {
      if (job.worker !== worker) continue;
      this.#waiting.delete(id);
      job.reject(error);
    }
  }
}

function otherCores(): number {
  return Math.max(1, Math.min(4, availableParallelism() - 1));
}
