import { type LayerWatch, watchLayer } from '../nn/layers.ts';
import type { Module } from '../nn/module.ts';
import { noGrad } from '../tensor/autograd.ts';
import { cat, tensor, zeros } from '../tensor/create.ts';
import type { Flight, ProcessGroup } from '../tensor/distributed.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Optimizer } from './optimizer.ts';
import type { Exchange } from './team.ts';

/** Parameters whose gradients travel together, and the layers that must be done before. */
interface Bucket {
  readonly names: readonly string[];
  readonly layers: readonly Module[];
}

interface Launched {
  readonly flat: Tensor;
  readonly flight: Flight;
}

/**
 * Every rank has the whole model; the sum of the gradients is formed in float32, a bucket at a time, while the layers in front still compute theirs.
 * Li et al. 2020, arXiv:2006.15704.
 */
export class Replicas implements Exchange, LayerWatch, Disposable {
  readonly #group: ProcessGroup;
  readonly #optimizer: Optimizer;
  readonly #shapes: ReadonlyMap<string, Pick<Tensor, 'shape' | 'numel' | 'device'>>;
  readonly #layers: readonly Module[];
  readonly #buckets: readonly Bucket[];
  readonly #done = new Set<Module>();
  readonly #launched: Launched[] = [];
  #last = false;

  /** `layers` in the order in which they run. */
  constructor(
    group: ProcessGroup,
    { layers, optimizer, bucketBytes = 25 * 2 ** 20 }: { layers: readonly Module[]; optimizer: Optimizer; bucketBytes?: number },
  ) {
    this.#group = group;
    this.#optimizer = optimizer;
    this.#shapes = new Map(optimizer.parameters());
    this.#layers = [...layers].reverse();
    this.#buckets = this.#plan(bucketBytes);
    for (const layer of this.#layers) watchLayer(layer, this);
  }

  open(): void {}
  close(): void {}

  begin({ last }: { last: boolean }): void {
    this.#last = last;
  }

  leave(layer: Module, pass: 'forward' | 'backward'): void {
    if (pass === 'forward' || !this.#last) return;
    this.#done.add(layer);
    for (;;) {
      const next = this.#buckets[this.#launched.length];
      // What belongs to no layer is ready when all is.
      if (!next || next.layers.length === 0 || !next.layers.every((own) => this.#done.has(own))) return;
      this.#launch(next);
    }
  }

  finish(): void {
    for (const bucket of this.#buckets.slice(this.#launched.length)) this.#launch(bucket);
    for (const [i, { flat, flight }] of this.#launched.entries()) {
      flight.land();
      this.#unpack(this.#buckets[i]?.names ?? [], flat);
      flat.free();
    }
    this.#launched.length = 0;
    this.#done.clear();
    this.#last = false;
  }

  norm(own: number): number {
    return own;
  }

  [Symbol.dispose](): void {
    for (const layer of this.#layers) watchLayer(layer, undefined);
  }

  #plan(bucketBytes: number): Bucket[] {
    const names = new Map<Tensor, string>();
    for (const [name, parameter] of this.#optimizer.parameters()) names.set(parameter, name);
    const buckets: { names: string[]; layers: Module[] }[] = [];
    let room = 0;
    const add = (own: readonly string[], layer?: Module): void => {
      for (const name of own) {
        if (room <= 0) buckets.push({ names: [], layers: [] });
        if (room <= 0) room = bucketBytes;
        const bucket = buckets.at(-1);
        bucket?.names.push(name);
        if (layer && bucket?.layers.at(-1) !== layer) bucket?.layers.push(layer);
        room -= 4 * (this.#shapes.get(name)?.numel ?? 0);
      }
    };
    for (const layer of this.#layers) {
      const own = [...layer.parameters()].map((parameter) => names.get(parameter)).filter((name) => name !== undefined);
      for (const parameter of layer.parameters()) names.delete(parameter);
      add(own.reverse(), layer);
    }
    room = 0;
    add([...names.values()]);
    return buckets;
  }

  /** Behind the gradients, how many ranks have each of them. */
  #launch({ names }: Bucket): void {
    using scope = new Scope();
    const flat = noGrad(() => {
      const found = names.map((name) => {
        this.#optimizer.bank(name);
        return this.#optimizer.gradient(name);
      });
      const { device = 'cpu' } = this.#shapes.get(names[0] ?? '') ?? {};
      const gradients = found.map(
        (gradient, i) => gradient?.flatten() ?? zeros([this.#shapes.get(names[i] ?? '')?.numel ?? 0], { device }),
      );
      const counts = tensor(Float32Array.from(found, (gradient) => (gradient ? 1 : 0))).to({ device });
      return cat([...gradients, counts]);
    });
    // They come back summed.
    for (const name of names) this.#optimizer.setGradient(name, undefined);
    this.#launched.push({ flat: Scope.release(scope.keep(flat)), flight: this.#group.allReduce(flat) });
  }

  #unpack(names: readonly string[], flat: Tensor): void {
    using _scope = new Scope();
    const counts = flat
      .narrow(0, flat.numel - names.length, names.length)
      .to({ device: 'cpu' })
      .toArray() as Float32Array;
    let at = 0;
    for (const [i, name] of names.entries()) {
      const { shape, numel } = this.#shapes.get(name) ?? { shape: [], numel: 0 };
      if (counts[i]) this.#optimizer.setGradient(name, flat.narrow(0, at, numel).view(...shape));
      at += numel;
    }
  }
}
