import { native, processMemory } from './native.ts';

/** Where a tensor lives. Tensors on `meta` have a shape and a dtype and no memory. */
export type Device = 'cpu' | 'meta' | 'cuda' | `cuda:${number}`;

let cuda: boolean | undefined;

/** True when libtorch was built for CUDA and finds a device; the CUDA library is loaded on the first question. */
export function hasCuda(): boolean {
  cuda ??= native.loadCuda();
  return cuda;
}

/** How many threads an operator may use. */
export const threads = (): number => native.threads();

/** Sets how many threads an operator may use. */
export const setThreads = (count: number): void => native.setThreads(count);

/** libtorch's version and the vector instructions that it chose, such as `AVX512`. */
export const libtorch = (): { version: string; capability: string } => ({ version: native.version(), capability: native.capability() });

/** Handles that are not freed yet. A step that gives back all it took leaves this as it was. */
export const liveTensors = (): number => native.live()[0];

/** Gives memory that was freed back to the system, where it is kept otherwise. */
export const trimMemory = (): void => native.trimMemory();

/** Lets freed memory stay with the process, from the first true until as many false, because what is made and freed over and over comes back sooner. */
export const keepFreedMemory = (whether: boolean): void => native.keepFreedMemory(whether);

/** What stands in memory: live handles, the bytes of their distinct storages, and the process's present and peak resident bytes. */
export function memory(): { tensors: number; tensorBytes: number; rssBytes: number; peakRssBytes: number } {
  const [tensors, tensorBytes] = native.live();
  const process = processMemory();
  return { tensors, tensorBytes, rssBytes: process?.rss ?? Number.NaN, peakRssBytes: process?.peakRss ?? Number.NaN };
}
