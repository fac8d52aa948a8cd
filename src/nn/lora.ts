import { noGrad } from '../tensor/autograd.ts';
import { empty } from '../tensor/create.ts';
import type { Device } from '../tensor/device.ts';
import { linear } from '../tensor/functional.ts';
import { Generator } from '../tensor/random.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { zeros } from './init.ts';
import { Linear } from './linear.ts';
import { type KeyTable, Module } from './module.ts';

/** How large a low-rank change is and how strongly it counts. */
export interface LoraOptions {
  readonly rank: number;
  readonly alpha: number;
  /** The share of the inputs that the change does not see in training. */
  readonly dropout?: number;
  /** The change counts alpha / √rank instead of alpha / rank. Kalajdzievski 2023, arXiv:2312.03732. */
  readonly rankStabilized?: boolean;
}

/** What the product of the two factors is multiplied by. */
export const loraScale = ({ rank, alpha, rankStabilized = false }: LoraOptions): number =>
  alpha / (rankStabilized ? Math.sqrt(rank) : rank);

/**
 * Where masks of dropout come from while a model learns; without a seed nothing is dropped. They follow from the seed and the layer alone,
 * so that a layer that is computed again in the backward pass drops the same.
 */
export class DropoutSeed {
  value: number | undefined;
}

/** A frozen linear layer and a change of low rank that learns: base(x) + scale · B A x. Hu et al. 2021, arXiv:2106.09685. */
export class LoraLinear extends Module implements Linear {
  /** Never changed; its keys are those that the layer has without the change. */
  readonly base: Linear;
  /** A, [rank, inputs] */
  readonly loraA: Linear;
  /** B, [outputs, rank] */
  readonly loraB: Linear;
  readonly options: LoraOptions;
  readonly #scale: number;
  #dropout: { readonly share: number; readonly seed: DropoutSeed | undefined; readonly layer: number };
  #merged: Tensor | undefined;

  constructor(base: Linear, options: LoraOptions) {
    super();
    const [outputs, inputs] = base.weightShape;
    this.base = base;
    this.loraA = new Linear(inputs, options.rank, { bias: false });
    this.loraB = new Linear(options.rank, outputs, { bias: false, init: zeros });
    this.options = options;
    this.#scale = loraScale(options);
    this.#dropout = { share: options.dropout ?? 0, seed: undefined, layer: 0 };
  }

  protected override get keys(): KeyTable {
    return { base: '', lora_a: 'lora_A', lora_b: 'lora_B' };
  }

  get weightShape(): readonly [outputs: number, inputs: number] {
    return this.base.weightShape;
  }

  /** The share of the inputs that the change does not see in training. */
  get dropout(): number {
    return this.#dropout.share;
  }

  /** The weight that the layer acts by, change included. */
  get weight(): Tensor {
    return this.#merged ?? this.#sum();
  }

  get bias(): Tensor | undefined {
    return this.base.bias;
  }

  /** Fresh factors in float32: A as PyTorch begins linear layers, B zero, so that nothing changes yet. The same on every device. */
  initializeFactors(generator: Generator, { device = 'cpu' }: { device?: Device } = {}): void {
    for (const factor of [this.loraA, this.loraB]) {
      const { weight } = factor.initialize(generator);
      if (device !== 'cpu') takeOver(factor, Scope.release(weight.to({ device })));
    }
  }

  /**
   * Lets the factors learn, and nothing else; of the inputs the share `dropout` is left out where the seed has a value. Layers with one seed
   * need numbers of their own.
   */
  learn({ dropout = 0, seed, layer = 0 }: { dropout?: number; seed?: DropoutSeed; layer?: number } = {}): void {
    this.trainable(false);
    this.loraA.trainable();
    this.loraB.trainable();
    this.#dropout = { share: dropout, seed, layer };
  }

  /** Takes over factors: `a` [rank, inputs], `b` [outputs, rank]. */
  setFactors(a: Tensor, b: Tensor): void {
    takeOver(this.loraA, a);
    takeOver(this.loraB, b);
  }

  /** scale · B A [outputs, inputs], in float32. */
  delta(): Tensor {
    using scope = new Scope();
    const [b, a] = [this.loraB.weight.cast('float32'), this.loraA.weight.cast('float32')];
    return scope.keep(b.matmul(a).mul(this.#scale));
  }

  /** Adds the change to a copy of the weight, for as fast an answer as without it; the factors do not learn then. */
  merge(): void {
    this.#merged ??= noGrad(() => Scope.release(this.#sum()));
  }

  /** Undoes `merge` to the bit: the weight itself was never touched. */
  unmerge(): void {
    this.#merged?.free();
    this.#merged = undefined;
  }

  /** A plain layer with the change in its weight. The bias is shared with this one. */
  merged(): Linear {
    return Linear.of(
      noGrad(() => Scope.release(this.#sum())),
      this.bias,
    );
  }

  #sum(): Tensor {
    using scope = new Scope();
    const { weight } = this.base;
    return scope.keep(weight.cast('float32').add(this.delta()).cast(weight.dtype));
  }

  /** Gives back the memory of the weight and of its change; the bias stays. */
  free(): void {
    this.unmerge();
    for (const layer of [this.base, this.loraA, this.loraB]) layer.free();
  }

  /** `x` [..., inputs] to [..., outputs]. */
  forward(x: Tensor): Tensor {
    if (this.#merged) return linear(x, this.#merged, this.bias);
    const y = this.base.forward(x);
    const change = this.loraB.forward(this.loraA.forward(this.#drop(x.cast(this.loraA.weight.dtype)))).mul(this.#scale);
    return y.add(change.cast(y.dtype));
  }

  #drop(x: Tensor): Tensor {
    const { share, seed, layer } = this.#dropout;
    if (seed?.value === undefined || share === 0) return x;
    const { shape, dtype, device } = x;
    const generator = new Generator(seed.value + layer, { device });
    const kept = empty(shape, { dtype, device }).bernoulli_(1 - share, { generator });
    return x.mul(kept.div_(1 - share));
  }
}

function takeOver(layer: Linear, weight: Tensor): void {
  layer.weight.free();
  Object.assign(layer, { weight });
}

/** Every layer of `module` with a low-rank change, by its key. */
export function loraLayers(module: Module): Map<string, LoraLinear> {
  const found = new Map<string, LoraLinear>();
  for (const [key, inner] of module.namedModules()) if (inner instanceof LoraLinear) found.set(key, inner);
  return found;
}

/** Puts every low-rank change inside `module` into the weights and leaves plain layers behind, whose keys are the same. */
export function mergeLora(module: Module): void {
  module.replaceModules<LoraLinear, Linear>(LoraLinear, (layer) => {
    const merged = layer.merged();
    layer.free();
    return merged;
  });
}
