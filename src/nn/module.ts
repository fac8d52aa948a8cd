import { TinyLlavaError } from '../errors.ts';
import { noGrad } from '../tensor/autograd.ts';
import { empty } from '../tensor/create.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Generator } from '../tensor/random.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { Scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { WeightMemory } from '../tensor/weight-memory.ts';
import type { Init } from './init.ts';
import { matchWeights } from './weights.ts';

/** Property paths whose checkpoint key differs: the longest path that fits, whole segments only, is replaced by its key ("" drops it). */
export type KeyTable = Readonly<Record<string, string>>;

/** How a module takes its weights. */
export interface TakeOptions {
  readonly prefix?: string;
  readonly dtype?: DType | ((key: string) => DType);
  readonly device?: Device;
  readonly mapped?: boolean;
}

/** One parameter: its checkpoint key, and the module and property that hold it. */
interface Slot {
  readonly key: string;
  readonly owner: Module;
  readonly property: string;
  readonly tensor: Tensor;
}

/** A module somewhere inside another: its key, and how to put another in its place. */
interface Place {
  readonly key: string;
  readonly module: Module;
  readonly put: (other: Module) => void;
}

const recipes = new WeakMap<Tensor, Init>();
const statistics = new WeakSet<Tensor>();

/** A parameter with a shape and a starting recipe but no memory yet: `initialize` or `load` of its module puts values in its place. */
export function parameter(shape: readonly number[], init: Init): Tensor {
  const tensor = Scope.release(empty(shape, { device: 'meta' }));
  recipes.set(tensor, init);
  return tensor;
}

/** A tensor that checkpoints hold and gradients never change, such as a batch norm's mean; it does not count as a parameter. */
export function statistic(shape: readonly number[], init: Init): Tensor {
  const tensor = parameter(shape, init);
  statistics.add(tensor);
  return tensor;
}

/** The checkpoint spelling of a property: every capital becomes an underscore and its small letter; digits and underscores stay. */
export function snakeCase(property: string): string {
  return property.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The property of a checkpoint key's segment, the inverse of `snakeCase`: `q_proj` is `qProj`, but `linear_1` stays as it is. */
export function camelCase(segment: string): string {
  return segment.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function applyTable(table: KeyTable, path: string): string {
  for (let end = path.length; end > 0; end = path.lastIndexOf('.', end - 1)) {
    const key = table[path.slice(0, end)];
    if (key !== undefined) return key === '' ? path.slice(end + 1) : key + path.slice(end);
  }
  return path;
}

/**
 * A part of a model. Own properties that are tensors are its parameters, own properties that are modules or arrays of modules its children;
 * the property path, in snake case, is the key in checkpoints. Everything else that a module remembers lives in private fields.
 */
export abstract class Module {
  /** Exceptions from "the property path is the key". */
  protected get keys(): KeyTable {
    return {};
  }

  /** Child modules by the property that holds them; items of an array as `layers.0`, `layers.1`, … */
  *children(): Iterable<[string, Module]> {
    for (const [property, value] of Object.entries(this) as [string, unknown][]) {
      if (value instanceof Module) yield [snakeCase(property), value];
      if (!Array.isArray(value)) continue;
      for (const [index, item] of value.entries()) if (item instanceof Module) yield [`${snakeCase(property)}.${index}`, item];
    }
  }

  *#slots(): Iterable<Slot> {
    const table = this.keys;
    for (const [property, tensor] of Object.entries(this) as [string, unknown][]) {
      if (tensor instanceof Tensor) yield { key: applyTable(table, snakeCase(property)), owner: this, property, tensor };
    }
    for (const [path, child] of this.children()) {
      for (const slot of child.#slots()) yield { ...slot, key: applyTable(table, `${path}.${slot.key}`) };
    }
  }

  *#modules(): Iterable<Place> {
    const table = this.keys;
    for (const [property, value] of Object.entries(this) as [string, unknown][]) {
      const list = Array.isArray(value) ? (value as unknown[]) : undefined;
      for (const [index, module] of (list ?? [value]).entries()) {
        if (!(module instanceof Module)) continue;
        const path = list ? `${snakeCase(property)}.${index}` : snakeCase(property);
        const put = (other: Module): void => {
          if (list) list[index] = other;
          else (this as unknown as Record<string, Module>)[property] = other;
        };
        yield { key: applyTable(table, path), module, put };
        for (const inner of module.#modules()) yield { ...inner, key: applyTable(table, inner.key === '' ? path : `${path}.${inner.key}`) };
      }
    }
  }

  /** Every module inside with the key that its parameters' keys begin with, outer ones first. */
  *namedModules(): Iterable<[string, Module]> {
    for (const { key, module } of this.#modules()) yield [key, module];
  }

  /**
   * Puts what `change` gives for a module of class `kind` in its place: something of a type that stands for the class, as another with all of
   * its members does.
   */
  replaceModules<Old extends New, New extends Module>(
    kind: abstract new (...args: never[]) => Old,
    change: (module: Old, key: string) => New | undefined,
  ): void {
    // All places are known before the first changes, so that what lies inside of a replacement stays.
    for (const { key, module, put } of [...this.#modules()]) {
      const other = module instanceof kind ? change(module, key) : undefined;
      if (other) put(other);
    }
  }

  /** Every parameter with its checkpoint key, in the order of construction. */
  *namedParameters(prefix = ''): Iterable<[string, Tensor]> {
    for (const { key, tensor } of this.#slots()) yield [prefix + key, tensor];
  }

  /** Every parameter, in the order of construction. */
  *parameters(): Iterable<Tensor> {
    for (const { tensor } of this.#slots()) yield tensor;
  }

  /** How many numbers the parameters hold; with `trainable` only those that learn. */
  parameterCount({ trainable = false } = {}): number {
    let count = 0;
    for (const tensor of this.parameters()) if (trainable ? tensor.requiresGrad : !statistics.has(tensor)) count += tensor.numel;
    return count;
  }

  /** Whether every parameter has values, that is, has been initialized or loaded. */
  get materialized(): boolean {
    for (const tensor of this.parameters()) if (tensor.device === 'meta') return false;
    return true;
  }

  /** Gives every parameter fresh starting values drawn from `generator`. */
  initialize(generator: Generator, { dtype = 'float32', device = 'cpu' }: { dtype?: DType; device?: Device } = {}): this {
    for (const slot of this.#slots()) {
      const init = recipes.get(slot.tensor);
      if (!init) throw new TinyLlavaError(`${slot.key} has no starting recipe`, { hint: 'make parameters with parameter(shape, init)' });
      const tensor = Scope.release(empty(slot.tensor.shape, { dtype, device }));
      noGrad(() => init(tensor, generator));
      replace(slot, tensor);
    }
    return this;
  }

  /** Throws CheckpointError that lists what is missing, unexpected or mis-shaped in `weights`, whose names start with `prefix`. */
  checkWeights(weights: WeightSource, { prefix = '' }: { prefix?: string } = {}): void {
    const wanted = new Map<string, readonly number[]>();
    for (const { key, tensor } of this.#slots()) wanted.set(prefix + key, tensor.shape);
    matchWeights(weights, wanted, { prefix, into: this.constructor.name });
  }

  /**
   * Takes every parameter from `weights`, whose names start with `prefix`; on the CPU they lie together in huge pages. Without `dtype` the
   * parameters take the one of the weights. `mapped` leaves those on the CPU that keep their dtype in the file, to be read when they are used.
   * Throws CheckpointError that lists what is missing, unexpected or mis-shaped, and then changes nothing.
   */
  load(weights: WeightSource, { prefix = '', dtype, device = 'cpu', mapped = false }: TakeOptions = {}): this {
    const wish = (key: string): DType => (typeof dtype === 'function' ? dtype(key) : dtype) ?? weights.dtype(prefix + key);
    const slots = [...this.#slots()];
    this.checkWeights(weights, { prefix });
    // The largest first: what one takes beside its place while it is converted is least when little is in place yet.
    slots.sort((a, b) => b.tensor.numel - a.tensor.numel);
    const wanted = slots.map(({ key, tensor: { shape } }) => ({ shape, dtype: wish(key) }));
    const memory = device === 'cpu' && !mapped ? new WeightMemory(wanted) : undefined;
    for (const [i, slot] of slots.entries()) {
      using _scope = new Scope();
      const [key, target] = [prefix + slot.key, wanted[i]?.dtype ?? 'float32'];
      const source = weights.dtype(key);
      // Not mapped even where it is converted: pages of a file that were touched count as the process's own.
      const stored = weights.tensor(key, memory && (source === target ? memory : 'own'));
      replace(slot, Scope.release(memory ? memory.place(stored, target) : stored.cast(target).to({ device })));
    }
    memory?.letGo();
    return this;
  }

  /** Puts what `change` gives for a parameter and its checkpoint key in its place; the old tensor is then the caller's. */
  exchange(change: (parameter: Tensor, key: string) => Tensor | undefined): this {
    for (const { key, tensor, owner, property } of [...this.#slots()]) {
      const other = change(tensor, key);
      if (other) put({ owner, property, tensor }, other);
    }
    return this;
  }

  /** Whether the parameters learn; they do not until told to, so that inference records no graph. */
  trainable(on = true): this {
    for (const tensor of this.parameters()) if (!statistics.has(tensor)) tensor.requiresGrad_(on);
    return this;
  }

  /** The same as `trainable(false)`. */
  freeze(): this {
    return this.trainable(false);
  }
}

function put({ owner, property, tensor: old }: Omit<Slot, 'key'>, tensor: Tensor): void {
  const init = recipes.get(old);
  if (init) recipes.set(tensor, init);
  if (statistics.has(old)) statistics.add(tensor);
  (owner as unknown as Record<string, Tensor>)[property] = tensor;
}

function replace(slot: Slot, tensor: Tensor): void {
  if (slot.tensor.requiresGrad) tensor.requiresGrad_();
  put(slot, tensor);
  slot.tensor.free();
}
