import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
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

/** Reads what `evaluate` wrote into folders; a run is named by its folder. `data` is where the images are now. Throws DataError for one without results. */
export async function readRuns(folders: readonly string[], { data }: { readonly data?: string | undefined } = {}): Promise<Run[]> {
  const names = folders.map((folder) => basename(resolve(folder)));
  return Promise.all(
    folders.map(async (folder, i) => {
      const name = names[i] ?? '';
      const results = await readResults(folder);
      const samples: Record<string, Scored[]> = {};
      for (const task of Object.keys(results.tasks)) samples[task] = await readSamples(join(folder, `samples_${task}.jsonl`), { data });
      const twice = names.indexOf(name) !== names.lastIndexOf(name);
      return { name: twice ? `${basename(dirname(resolve(folder)))}/${name}` : name, results, samples };
    }),
  );
}

async function readResults(folder: string): Promise<Results> {
  const path = join(folder, 'results.json');
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Results;
  } catch (cause) {
    throw new DataError(`${path}: ${(cause as Error).message}`, { hint: 'name a folder that a finished `eval --out` wrote', cause });
  }
}
