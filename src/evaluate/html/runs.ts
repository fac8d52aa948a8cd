import { readFile } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { DataError } from '../../errors.ts';
import type { Results } from '../evaluate.ts';
import { readSamples } from '../samples-file.ts';
import type { Scored } from '../task.ts';

/** A run as it lies in a folder. */
export interface Run {
  readonly name: string;
  readonly results: Results;
  /** By task, in the order of the questions. */
  readonly samples: Readonly<Record<string, readonly Scored[]>>;
}

/** Reads what `evaluate` wrote into folders, after which runs are named, one alone after its model. `data` is where the images are now. Throws DataError for one without results. */
export async function readRuns(folders: readonly string[], { data }: { readonly data?: string | undefined } = {}): Promise<Run[]> {
  const names = runNames(folders);
  return Promise.all(
    folders.map(async (folder, i) => {
      const results = await readResults(folder);
      const samples: Record<string, Scored[]> = {};
      for (const task of Object.keys(results.tasks)) samples[task] = await readSamples(join(folder, `samples_${task}.jsonl`), { data });
      const { model } = results.settings;
      return { name: folders.length === 1 && model !== undefined ? String(model) : (names[i] ?? folder), results, samples };
    }),
  );
}

/** The end of each folder's path that no other has; a folder that is named again is numbered. */
function runNames(folders: readonly string[]): string[] {
  const paths = folders.map((folder) => resolve(folder).split(sep));
  const end = (path: readonly string[], names: number): string => path.slice(-names).join('/');
  const wholes = paths.map((path) => end(path, path.length));
  return paths.map((path, i) => {
    const whole = wholes[i] ?? '';
    const others = paths.filter((_, j) => wholes[j] !== whole);
    let names = 1;
    while (names < path.length && others.some((other) => end(other, names) === end(path, names))) names += 1;
    const earlier = wholes.slice(0, i).filter((other) => other === whole).length;
    return earlier === 0 ? end(path, names) : `${end(path, names)} (${earlier + 1})`;
  });
}

/** The results in a folder. Throws DataError where there are none. */
export async function readResults(folder: string): Promise<Results> {
  const path = join(folder, 'results.json');
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Results;
  } catch (cause) {
    throw new DataError(`${path}: ${(cause as Error).message}`, { hint: 'name a folder that a finished `eval --out` wrote', cause });
  }
}
