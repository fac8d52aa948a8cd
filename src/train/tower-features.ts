import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CheckpointError, ConfigError, isSystemError } from '../errors.ts';
import type { VisionTower } from '../model/vision/vision-tower.ts';
import type { ImageProcessor } from '../processor/image.ts';
import { noGrad } from '../tensor/autograd.ts';
import { stack } from '../tensor/create.ts';
import { libtorch } from '../tensor/device.ts';
import { openSafetensors, writeSafetensors } from '../tensor/safetensors.ts';
import { outliving, Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Where features are kept. */
export interface TowerFeaturesOptions {
  /** Features in memory, in bytes (512 MiB): the longest unused go first; 0 keeps none. */
  readonly memoryBytes?: number | undefined;
  /** A folder in which they outlast the run. */
  readonly folder?: string | undefined;
}

/** What a cache did. */
export interface TowerFeaturesFacts {
  readonly fromMemory: number;
  readonly fromDisk: number;
  readonly computed: number;
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    throw new ConfigError(`${path} cannot be made: ${(cause as Error).message}`, { hint: 'name another folder with --features', cause });
  }
}

/**
 * What a frozen tower makes of views, each computed once. A view is known by its bytes, and what is kept belongs to the tower's settings and
 * weights, its dtype and the image settings, so that nothing of another tower is ever found. Every view goes through the tower by itself:
 * what else is in a batch, and whether a cache was full or empty, changes no bit of a training run.
 */
export class TowerFeatures {
  readonly #tower: VisionTower;
  readonly #image: ImageProcessor;
  readonly #memoryBytes: number;
  readonly #folder: string | undefined;
  /** By digest, in the order of their last use. */
  readonly #kept = new Map<string, Tensor>();
  readonly #weights: readonly Tensor[];
  #bytes = 0;
  #writes = true;
  #facts: TowerFeaturesFacts = { fromMemory: 0, fromDisk: 0, computed: 0 };

  constructor(tower: VisionTower, image: ImageProcessor, { memoryBytes = 512 * 2 ** 20, folder }: TowerFeaturesOptions = {}) {
    this.#tower = tower;
    this.#image = image;
    this.#memoryBytes = memoryBytes;
    this.#weights = [...tower.parameters()];
    this.#folder = folder === undefined ? undefined : join(folder, fingerprint(tower, image));
    if (this.#folder !== undefined) makeFolder(this.#folder);
  }

  get facts(): TowerFeaturesFacts {
    return this.#facts;
  }

  /** Bytes of features in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Views as the image processor's bytes, each of them [3, H, W] or several behind one another, to features [V, N, C] that no scope frees. */
  encode(images: readonly Uint8Array[]): Tensor {
    const size = 3 * this.#image.height * this.#image.width;
    const views = images.flatMap((bytes) =>
      Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size)),
    );
    const found = views.map((bytes) => this.#view(bytes));
    const features = outliving(() => stack(found));
    // only now, for the batch itself may be more than is kept
    this.#trim();
    return features;
  }

  /** Whether what is kept is still what this tower gives, if it did not learn meanwhile. */
  fits(tower: VisionTower, image: ImageProcessor): boolean {
    const weights = [...tower.parameters()];
    const same = weights.length === this.#weights.length && weights.every((weight, i) => weight === this.#weights[i]);
    return same && JSON.stringify(image.config) === JSON.stringify(this.#image.config);
  }

  /** Gives the memory back. */
  free(): void {
    for (const features of this.#kept.values()) features.free();
    this.#kept.clear();
    this.#bytes = 0;
  }

  #view(bytes: Uint8Array): Tensor {
    const key = createHash('sha256').update(bytes).digest('hex');
    const known = this.#kept.get(key);
    if (known) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      this.#count('fromMemory');
      return known;
    }
    const stored = this.#read(key);
    const features = stored ?? this.#compute(bytes);
    this.#count(stored ? 'fromDisk' : 'computed');
    if (!stored) this.#write(key, features);
    this.#kept.set(key, features);
    this.#bytes += features.bytes;
    return features;
  }

  #compute(bytes: Uint8Array): Tensor {
    using scope = new Scope();
    const [weight] = this.#tower.parameters();
    const pixels = this.#image.stack([bytes]).to({ device: weight?.device ?? 'cpu', dtype: weight?.dtype ?? 'float32' });
    return Scope.release(scope.keep(noGrad(() => this.#tower.forward(pixels).squeeze(0).contiguous())));
  }

  #trim(): void {
    for (const [key, features] of this.#kept) {
      if (this.#bytes <= this.#memoryBytes) return;
      this.#kept.delete(key);
      this.#bytes -= features.bytes;
      features.free();
    }
  }

  #read(key: string): Tensor | undefined {
    const path = this.#path(key);
    if (path === undefined || !existsSync(path)) return undefined;
    try {
      const [weight] = this.#tower.parameters();
      // read into memory of its own: a mapped file would change under a run that lasts
      return Scope.release(
        outliving(() =>
          openSafetensors(path)
            .tensor('features')
            .clone()
            .to({ device: weight?.device ?? 'cpu' }),
        ),
      );
    } catch (error) {
      // what a full disk or a killed process left is made again
      if (error instanceof CheckpointError) return undefined;
      throw error;
    }
  }

  #write(key: string, features: Tensor): void {
    const path = this.#path(key);
    if (path === undefined || !this.#writes) return;
    using _scope = new Scope();
    const stored = features.to({ device: 'cpu' });
    try {
      mkdirSync(dirname(path), { recursive: true });
      writeSafetensors(path, [['features', stored]]);
    } catch (error) {
      if (!(error instanceof CheckpointError) && !isSystemError(error)) throw error;
      // A disk that takes no more is left alone: features are computed when they are needed again.
      this.#writes = false;
    }
  }

  #path(key: string): string | undefined {
    return this.#folder === undefined ? undefined : join(this.#folder, key.slice(0, 2), `${key}.safetensors`);
  }

  #count(what: keyof TowerFeaturesFacts): void {
    this.#facts = { ...this.#facts, [what]: this.#facts[what] + 1 };
  }
}

/**
 * The features of a stage's frozen tower: those that the stage before left, where they are still its own, else none yet. Undefined where no tower
 * is frozen, and on a GPU unless `features` says how to keep them: it is faster on a batch than on view by view.
 */
export function featuresFor(
  frozen: VisionTower | undefined,
  image: ImageProcessor,
  { features, known }: { features: TowerFeaturesOptions | undefined; known: TowerFeatures | undefined },
): TowerFeatures | undefined {
  const [weight] = frozen?.parameters() ?? [];
  const keeps = features !== undefined || weight?.device === 'cpu';
  if (frozen && keeps && known?.fits(frozen, image)) return known;
  known?.free();
  return frozen && keeps ? new TowerFeatures(frozen, image, features) : undefined;
}

/** Differs for towers, image settings and libraries that may give other features. */
function fingerprint(tower: VisionTower, image: ImageProcessor): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([tower.constructor.name, tower.tokens, tower.hiddenSize, tower.imageSize, image.config, libtorch()]));
  for (const [key, weight] of tower.namedParameters()) {
    using _scope = new Scope();
    hash.update(`${key} ${weight.dtype} ${weight.device} ${weight.shape.join(' ')}\n`);
    const values = weight.detach().to({ device: 'cpu' }).toArray();
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex').slice(0, 32);
}
