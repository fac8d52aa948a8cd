import { TinyLlavaError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { type LayerWatch, watchLayer } from '../nn/layers.ts';
import type { Module } from '../nn/module.ts';
import { isGradEnabled, noGrad } from '../tensor/autograd.ts';
import { cat, empty, zeros } from '../tensor/create.ts';
import type { Device } from '../tensor/device.ts';
import type { Flight, ProcessGroup } from '../tensor/distributed.ts';
import type { DType } from '../tensor/dtype.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { outliving, Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Optimizer, ParameterGroup } from './optimizer.ts';
import type { Masters } from './precision.ts';
import type { Exchange } from './team.ts';

/** Shards are whole blocks of so many numbers, so that what is remembered of a block is on one rank. */
const block = 256;

/** One parameter of which every rank keeps an equal part, the last one padded with zeros. */
interface Share {
  readonly name: string;
  /** Its key in the module that it is exchanged in. */
  readonly key: string;
  readonly shape: readonly number[];
  readonly numel: number;
  readonly requiresGrad: boolean;
  readonly dtype: DType;
  readonly device: Device;
  /** Of this rank, [S]: a part of its bundle's `own`. */
  readonly shard: Tensor;
  /** Where it begins there. */
  readonly start: number;
  /** Stands in the model for what is spread. */
  readonly absent: Tensor;
}

/** Parameters of a unit that have one dtype, whose shards lie together. */
interface Bundle {
  readonly shares: readonly Share[];
  readonly own: Tensor;
}

interface Gathering {
  readonly bundle: Bundle;
  readonly into: Tensor;
  readonly flight: Flight;
}

/** What is brought together and spread again as one: a layer, or all that is in none. */
interface Unit {
  readonly module: Module;
  readonly bundles: readonly Bundle[];
  /** The unit that a forward pass enters next. */
  after: Unit | undefined;
  readonly before: Unit | undefined;
  gathering: Gathering[] | undefined;
  whole: Map<string, Tensor> | undefined;
}

interface Scattering {
  readonly shares: readonly Share[];
  readonly into: Tensor;
  readonly flat: Tensor;
  readonly flight: Flight;
}

/** What is spread. */
export interface ShardsOptions {
  readonly model: TinyLlava;
  /** In the order in which they run. */
  readonly layers: readonly Module[];
  /** A part that stays whole on every rank. */
  readonly whole: Module | undefined;
  readonly masters: Masters;
}

/**
 * Every rank keeps an equal part of each parameter, of its gradient, and of what the optimizer remembers. A layer's weights are brought together in
 * front of its pass, while the layer before is computed, and forgotten behind it; its gradients are summed and spread behind its backward pass. What
 * lies in no layer is brought together once a step. Rajbhandari et al. 2020, arXiv:1910.02054 (ZeRO-3); Zhao et al. 2023, arXiv:2304.11277.
 */
export class Shards implements Exchange, LayerWatch, Disposable {
  readonly #group: ProcessGroup;
  readonly #masters: Masters;
  readonly #besides = new Map<string, Tensor>();
  readonly #units = new Map<Module, Unit>();
  readonly #root: Unit;
  readonly #shares = new Map<string, Share>();
  readonly #scattering: Scattering[] = [];
  #optimizer: Optimizer | undefined;
  #open = false;

  /** Spreads a model but for the part that is to stay whole on every rank. Its layers are then computed again in backward passes. */
  constructor(group: ProcessGroup, { model, layers, whole, masters }: ShardsOptions) {
    this.#group = group;
    this.#masters = masters;
    const names = new Map<Tensor, string>();
    for (const [name, parameter] of model.namedParameters()) names.set(parameter, name);
    for (const parameter of whole?.parameters() ?? []) names.delete(parameter);
    let before: Unit | undefined;
    for (const module of layers) {
      const bundles = this.#bundles(module, names);
      if (bundles.length === 0) continue;
      const unit: Unit = { module, bundles, before, after: undefined, gathering: undefined, whole: undefined };
      if (before) before.after = unit;
      before = unit;
      this.#units.set(module, unit);
      watchLayer(module, this);
    }
    const none = { before: undefined, after: undefined, gathering: undefined, whole: undefined };
    this.#root = { module: model, bundles: this.#bundles(model, names), ...none };
    masters.exchange((beside, name) => {
      const share = this.#shares.get(name);
      if (!share) return undefined;
      this.#besides.set(name, this.#shardOf(beside, share.shard.numel));
      return share.absent;
    });
  }

  /** Numbers that this rank keeps of all parameters. */
  get numel(): number {
    let sum = 0;
    for (const { shard } of this.#shares.values()) sum += shard.numel;
    return sum;
  }

  /** What stands beside this rank's shards, as `Masters` has it beside parameters. */
  get beside(): ReadonlyMap<string, Tensor> {
    return this.#besides;
  }

  /** Parameter groups with this rank's shards in the place of the parameters. */
  groups(groups: readonly ParameterGroup[]): ParameterGroup[] {
    return groups.map(({ parameters, ...settings }) => ({
      ...settings,
      parameters: new Map(Array.from(parameters, ([name, parameter]) => [name, this.#shares.get(name)?.shard ?? parameter] as const)),
      wholes: new Map(Array.from(parameters, ([name, parameter]) => [name, this.#shares.get(name)?.numel ?? parameter.numel] as const)),
    }));
  }

  /** The optimizer over `groups`, which gets the gradients. */
  feed(optimizer: Optimizer): void {
    this.#optimizer = optimizer;
  }

  /** Weights or states that were saved whole, or by any number of ranks, as this rank's parts. */
  sliced(source: WeightSource): WeightSource {
    const { rank } = this.#group;
    const own = new Map(this.#optimizer?.snapshot());
    return {
      ...source,
      names: source.names,
      path: source.path,
      shape: (name) => own.get(name)?.shape ?? source.shape(name),
      dtype: (name) => source.dtype(name),
      tensor: (name) => {
        const whole = source.tensor(name);
        const target = own.get(name);
        if (!target || target.rank === 0) return whole;
        return part(whole, target.numel, rank).clone();
      },
    };
  }

  /** The model whole again on every rank, in the dtype that it computes in, and its masters. */
  join(): void {
    this.#forget();
    for (const unit of [...this.#units.values(), this.#root]) {
      this.#materialize(unit);
      unit.whole = undefined;
    }
    this.#masters.exchange((_, name) => {
      const [share, own] = [this.#shares.get(name), this.#besides.get(name)];
      if (!share || !own) return undefined;
      using scope = new Scope();
      const into = empty([this.#group.size * own.numel], { dtype: own.dtype, device: share.device });
      this.#group.allGather(into, own).land();
      own.free();
      return Scope.release(
        scope.keep(
          into
            .narrow(0, 0, share.numel)
            .view(...share.shape)
            .contiguous(),
        ),
      );
    });
    for (const layer of this.#units.keys()) watchLayer(layer, undefined);
    this.#units.clear();
  }

  open(): void {
    this.#open = true;
    if (!this.#root.whole) this.#materialize(this.#root);
  }

  finish(): void {
    this.#scatter(this.#root);
    this.#land(0);
  }

  close(): void {
    this.#forget();
    for (const unit of [...this.#units.values(), this.#root]) this.#release(unit);
    this.#open = false;
  }

  begin(): void {
    // Gradients of one micro-batch alone, for those of several are added up in float32.
    this.#scatter(this.#root);
  }

  norm(own: number): number {
    const [sum = 0] = this.#group.sum([own * own]);
    return Math.sqrt(sum);
  }

  enter(layer: Module, pass: 'forward' | 'backward'): void {
    const unit = this.#unit(layer);
    if (!this.#open)
      throw new TinyLlavaError(`the model is sharded over ${this.#group.size} processes and can be used only by all of them together`);
    this.#materialize(unit);
    const next = pass === 'forward' ? unit.after : unit.before;
    if (next && !next.whole) this.#gather(next);
  }

  leave(layer: Module, pass: 'forward' | 'backward'): void {
    const unit = this.#unit(layer);
    if (pass === 'backward') this.#scatter(unit);
    // The last layer is the first of the backward pass.
    else if (!unit.after && isGradEnabled()) return;
    this.#release(unit);
  }

  [Symbol.dispose](): void {
    for (const layer of this.#units.keys()) watchLayer(layer, undefined);
  }

  #unit(layer: Module): Unit {
    const unit = this.#units.get(layer);
    if (!unit) throw new TinyLlavaError('the layer is not spread');
    return unit;
  }

  /** A rank's part of a tensor, flat, zeros where it ends. */
  #shardOf(whole: Tensor, size: number): Tensor {
    return outliving(() => Scope.release(noGrad(() => part(whole.detach(), size, this.#group.rank).clone())));
  }

  /** Takes the module's parameters that nobody has taken yet. */
  #bundles(module: Module, names: ReadonlyMap<Tensor, string>): Bundle[] {
    const { size, rank } = this.#group;
    const found = new Map<string, { name: string; key: string; parameter: Tensor; length: number; start: number }[]>();
    for (const [key, parameter] of module.namedParameters()) {
      const name = names.get(parameter);
      if (name === undefined || this.#shares.has(name)) continue;
      const length = block * Math.ceil(parameter.numel / size / block);
      const same = found.get(parameter.dtype) ?? [];
      found.set(parameter.dtype, same);
      const last = same.at(-1);
      same.push({ name, key, parameter, length, start: last ? last.start + last.length : 0 });
    }
    return Array.from(found.values(), (same) => {
      using _scope = new Scope();
      const { device, dtype } = same[0]?.parameter ?? { device: 'cpu', dtype: 'float32' };
      const own = Scope.release(noGrad(() => cat(same.map(({ parameter, length }) => part(parameter.detach(), length, rank)))));
      const shares = same.map(({ name, key, parameter, length, start }): Share => {
        const { shape, numel, requiresGrad } = parameter;
        const absent = Scope.release(empty(shape, { device: 'meta', dtype }).requiresGrad_(requiresGrad));
        const shard = Scope.release(own.narrow(0, start, length));
        const share = { name, key, shape, numel, requiresGrad, dtype, device, shard, start, absent };
        this.#shares.set(name, share);
        return share;
      });
      const absent = new Map(shares.map((share) => [share.key, share.absent]));
      module.exchange((_, key) => absent.get(key));
      for (const { parameter } of same) parameter.free();
      return { shares, own };
    });
  }

  #gather(unit: Unit): void {
    unit.gathering ??= unit.bundles.map((bundle) => {
      const { own } = bundle;
      using _scope = new Scope();
      const into = Scope.release(empty([this.#group.size * own.numel], { dtype: own.dtype, device: own.device }));
      return { bundle, into, flight: this.#group.allGather(into, own) };
    });
  }

  /** Puts the whole parameters into the module. */
  #materialize(unit: Unit): void {
    if (unit.whole) return;
    this.#gather(unit);
    const whole = new Map<string, Tensor>();
    for (const { bundle, into, flight } of unit.gathering ?? []) {
      flight.land();
      using _scope = new Scope();
      const byRank = into.view(this.#group.size, -1);
      for (const { key, shape, numel, shard, start, requiresGrad } of bundle.shares) {
        const flat = noGrad(() =>
          byRank
            .narrow(1, start, shard.numel)
            .reshape(-1)
            .narrow(0, 0, numel)
            .view(...shape),
        );
        whole.set(key, Scope.release(flat.requiresGrad_(requiresGrad)));
      }
      into.free();
    }
    unit.gathering = undefined;
    unit.whole = whole;
    unit.module.exchange((_, key) => whole.get(key));
  }

  #release(unit: Unit): void {
    const { whole } = unit;
    if (!whole) return;
    const absent = new Map(unit.bundles.flatMap(({ shares }) => shares.map((share) => [share.key, share.absent])));
    unit.module.exchange((_, key) => absent.get(key));
    for (const tensor of whole.values()) tensor.free();
    unit.whole = undefined;
  }

  /** Sends a unit's gradients to the ranks that keep their parts. */
  #scatter(unit: Unit): void {
    for (const { shares } of unit.bundles) {
      using scope = new Scope();
      const found = shares.filter(({ key }) => unit.whole?.get(key)?.grad);
      if (found.length === 0) continue;
      const flat = noGrad(() =>
        cat(
          found.map(({ key, shard }) => {
            const whole = unit.whole?.get(key) as Tensor;
            const gradient = whole.grad as Tensor;
            whole.grad = undefined;
            return padded(gradient.flatten().cast('float32'), this.#group.size * shard.numel).view(this.#group.size, -1);
          }),
          1,
        ),
      );
      const into = zeros([flat.size(1)], { device: flat.device });
      scope.keep([flat, into]);
      this.#scattering.push({
        shares: found,
        flat: Scope.release(flat),
        into: Scope.release(into),
        flight: this.#group.reduceScatter(into, flat),
      });
    }
    // What was sent before has been on its way for as long as a layer takes.
    this.#land(2);
  }

  /** Adds the gradients that have come to the optimizer's, until so many are left on their way. */
  #land(left: number): void {
    while (this.#scattering.length > left) {
      const { shares, flat, into, flight } = this.#scattering.shift() as Scattering;
      flight.land();
      using _scope = new Scope();
      noGrad(() => {
        let at = 0;
        for (const { name, shard } of shares) {
          const gradient = into.narrow(0, at, shard.numel);
          at += shard.numel;
          const before = this.#optimizer?.gradient(name);
          if (before) before.add_(gradient);
          else this.#optimizer?.setGradient(name, gradient);
        }
      });
      flat.free();
      into.free();
    }
  }

  /** Drops what was gathered ahead and is not needed: it would be old in the next step. */
  #forget(): void {
    for (const unit of this.#units.values()) {
      for (const { into, flight } of unit.gathering ?? []) {
        flight.land();
        into.free();
      }
      unit.gathering = undefined;
    }
  }
}

/** The part of a rank in a tensor that is split into parts of `size`, with zeros behind its end. */
function part(whole: Tensor, size: number, rank: number): Tensor {
  const flat = whole.flatten();
  const start = Math.min(flat.numel, rank * size);
  return padded(flat.narrow(0, start, Math.min(size, flat.numel - start)), size);
}

function padded(flat: Tensor, size: number): Tensor {
  if (flat.numel === size) return flat;
  return cat([flat, zeros([size - flat.numel], { dtype: flat.dtype, device: flat.device })]);
}
