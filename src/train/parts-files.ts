import { existsSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CheckpointError } from '../errors.ts';
import { cat } from '../tensor/create.ts';
import { openSafetensors, type WeightSource, writeSafetensors } from '../tensor/safetensors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Team } from './team.ts';

const stem = (path: string): string => path.replace(/\.safetensors$/, '');
const partOf = (path: string, rank: number, size: number): string => {
  const number = (n: number): string => String(n).padStart(5, '0');
  return `${stem(path)}-${number(rank + 1)}-of-${number(size)}.safetensors`;
};

/** The files that hold parts of what `path` names, by their number. */
function partsOf(path: string): string[] {
  const folder = dirname(path);
  const named = new RegExp(`^${basename(stem(path)).replace(/[.*+?^$()|[\]{}\\]/g, '\\$&')}-\\d{5}-of-\\d{5}\\.safetensors$`);
  return existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => named.test(name))
        .sort()
        .map((name) => join(folder, name))
    : [];
}

/** Writes the tensors that this rank keeps parts of beside the parts of the others, or whole ones in one file where one rank has all. */
export function writeParts(path: string, tensors: Iterable<readonly [string, Tensor]>, { rank, size }: Pick<Team, 'rank' | 'size'>): void {
  writeSafetensors(size === 1 ? path : partOf(path, rank, size), tensors);
}

/** Writes them in the place of what another number of ranks wrote there. */
export function replaceParts(
  path: string,
  tensors: Iterable<readonly [string, Tensor]>,
  team: Pick<Team, 'rank' | 'size' | 'barrier'>,
): void {
  writeParts(path, tensors, team);
  team.barrier();
  if (team.rank > 0) return;
  const { size } = team;
  const own = new Set(size === 1 ? [path] : Array.from({ length: size }, (_, rank) => partOf(path, rank, size)));
  for (const file of [path, ...partsOf(path)]) if (!own.has(file)) rmSync(file, { force: true });
}

/** Removes them. */
export function removeParts(path: string): void {
  for (const file of [path, ...partsOf(path)]) rmSync(file, { force: true });
}

/**
 * Opens what `writeParts` wrote, by however many ranks: each tensor that was in parts comes flat, one part behind the other, with the zeros that
 * fill up the last. Throws CheckpointError.
 */
export function openParts(path: string): WeightSource {
  const files = partsOf(path);
  if (files.length === 0) return openSafetensors(path);
  const size = Number(/-of-(\d+)\.safetensors$/.exec(files[0] ?? '')?.[1]);
  const missing = Array.from({ length: size }, (_, rank) => partOf(path, rank, size)).find((file) => !files.includes(file));
  if (missing !== undefined || files.length !== size)
    throw new CheckpointError(`${missing ?? path}: the parts are not those of one set of ${size}`);
  const first = openSafetensors(partOf(path, 0, size));
  const parts = [first, ...files.slice(1).map((file) => openSafetensors(file))];
  return {
    path,
    names: first.names,
    shape: (name) => {
      const [length] = first.shape(name);
      return length === undefined ? [] : [parts.reduce((sum, part) => sum + (part.shape(name)[0] ?? 0), 0)];
    },
    dtype: (name) => first.dtype(name),
    tensor: (name) => (first.shape(name).length === 0 ? first.tensor(name) : cat(parts.map((part) => part.tensor(name)))),
  };
}
