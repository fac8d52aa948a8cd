import { featureIndices } from '../model/vision/vit.ts';
import type { Module } from '../nn/module.ts';

/** The number of the block that a parameter is in, by its key. */
export function blockOf(key: string): number | undefined {
  const number = /(?:^|\.)_?(?:layers?|blocks)\.(\d+)\./.exec(key)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** The blocks of a part with their numbers. */
export const blocksOf = (part: Module): { number: number; block: Module }[] =>
  Array.from(part.namedModules()).flatMap(([key, block]) => {
    const number = /^(?:.*\.)?(?:layers?|blocks)\.(\d+)$/.exec(key)?.[1];
    return number === undefined ? [] : [{ number: Number(number), block }];
  });

/** How many blocks of a tower are run: those up to the last wanted features, and all where none are said. */
export function blocksRun(tower: Module, featureLayer: unknown): number {
  if (featureLayer === undefined) return Number.POSITIVE_INFINITY;
  const count = Math.max(-1, ...blocksOf(tower).map(({ number }) => number)) + 1;
  return Math.max(...featureIndices(featureLayer as number | readonly number[], count));
}
