import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { NativeError } from '../errors.ts';

declare const brand: unique symbol;

/** A slot of the addon's table of tensors. A handle whose tensor was freed throws wherever it is used. */
export type Handle = number & { readonly [brand]: 'tensor' };
/** A slot of the addon's table of random generators. */
export type GeneratorHandle = number & { readonly [brand]: 'generator' };
/** A group of processes that this one belongs to. */
export type GroupHandle = number & { readonly [brand]: 'group' };
/** A collective on its way. */
export type FlightHandle = number & { readonly [brand]: 'flight' };
/** A memory-mapped file. */
export type Mapping = { readonly [brand]: 'mapping' };
/** Memory for tensors that is given back as a whole. */
export type Pages = { readonly [brand]: 'pages' };
/** What an operator takes as a number. A whole number counts as an integer, as in Python. */
export type Scalar = number | boolean | bigint;
/** The typed arrays that tensors are made of and read into. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray;

type Ints = readonly number[];

/** Everything that the addon exports; `native/*.cc` documents each function. */
export interface Native {
  setErrorFactory(factory: (message: string) => Error): void;
  bind(name: string, overload: string): unknown;
  schema(name: string, overload: string): string | null;
  fromData(data: TypedArray, shape: Ints, dtype: number): Handle;
  toData(tensor: Handle, data: TypedArray): void;
  shape(tensor: Handle): number[];
  strides(tensor: Handle): number[];
  dtype(tensor: Handle): number;
  device(tensor: Handle): string;
  isContiguous(tensor: Handle): boolean;
  alias(tensor: Handle): Handle;
  free(tensor: Handle): void;
  dyingHandles(): ArrayBuffer;
  freeDying(count: number): void;
  account(tensor: Handle): void;
  live(): [tensors: number, bytes: number];
  setGradEnabled(on: boolean): void;
  gradEnabled(): boolean;
  requiresGrad(tensor: Handle): boolean;
  setRequiresGrad(tensor: Handle, on: boolean): void;
  isLeaf(tensor: Handle): boolean;
  grad(tensor: Handle): Handle | null;
  setGrad(tensor: Handle, gradient: Handle | null): void;
  backward(tensor: Handle, gradient: Handle | null): void;
  gradients(outputs: readonly Handle[], inputs: readonly Handle[], outer: readonly Handle[] | null): (Handle | null)[];
  threads(): number;
  setThreads(count: number): void;
  manualSeed(seed: number): void;
  generator(seed: number, device?: string): GeneratorHandle;
  freeGenerator(generator: GeneratorHandle): void;
  generatorState(generator: GeneratorHandle): Handle;
  setGeneratorState(generator: GeneratorHandle, state: Handle): void;
  loadCuda(): boolean;
  trimMemory(): void;
  keepFreedMemory(whether: boolean): void;
  version(): string;
  capability(): string;
  mapFile(path: string): [mapping: Mapping, bytes: number];
  mapped(mapping: Mapping, offset: number, shape: Ints, dtype: number): Handle;
  mappedBytes(mapping: Mapping, offset: number, into: Uint8Array): void;
  pages(bytes: number): Pages;
  letGo(pages: Pages): void;
  place(pages: Pages, tensor: Handle, dtype: number): Handle;
  read(mapping: Mapping, offset: number, shape: Ints, dtype: number, pages?: Pages): Handle;
  writeTensor(file: number, tensor: Handle): void;
  group(
    rank: number,
    size: number,
    host: string,
    port: number,
    server: boolean,
    patience: number,
    silence: number,
    attempt: string,
    terms: string,
  ): GroupHandle;
  allReduce(group: GroupHandle, tensor: Handle): FlightHandle;
  broadcast(group: GroupHandle, tensor: Handle, from: number): FlightHandle;
  allGather(group: GroupHandle, into: Handle, tensor: Handle): FlightHandle;
  reduceScatter(group: GroupHandle, into: Handle, tensor: Handle): FlightHandle;
  land(flight: FlightHandle): void;
  failGroup(group: GroupHandle, reason: string): void;
  closeGroup(group: GroupHandle): void;
}

function open(): Native {
  const path = process.env['TINYLLAVA_ADDON'] ?? join(import.meta.dirname, '../../build/tinyllava.node');
  // libgomp's threads spin for milliseconds before they sleep: on cores shared with other work small operators then take ten times as long.
  if (process.env['OMP_WAIT_POLICY'] === undefined) process.env['GOMP_SPINCOUNT'] ??= '1000';
  let addon: Native;
  try {
    addon = createRequire(import.meta.url)(path) as Native;
  } catch (cause) {
    throw new NativeError(`cannot load ${path}: ${(cause as Error).message.split('\n')[0]}`, {
      hint: 'run `npm run build:native`, and `npx tinyllava doctor` to see what is missing',
      cause,
    });
  }
  addon.setErrorFactory((message) => new NativeError(message));
  return addon;
}

/** The addon. Nothing outside `tensor/` imports this. */
export const native: Native = open();

/** An operator of the dispatcher as a function on handles; one that this libtorch lacks throws when called. */
export function operator<Signature>(name: string, overload: string): Signature {
  return native.bind(name, overload) as Signature;
}

/** Peak and present memory of this process in bytes, as Linux counts it; undefined where /proc is absent. */
export function processMemory(): { rss: number; peakRss: number } | undefined {
  try {
    const status = readFileSync('/proc/self/status', 'utf8');
    const kib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN);
    return { rss: kib('VmRSS') * 1024, peakRss: kib('VmHWM') * 1024 };
  } catch {
    return undefined;
  }
}
