import { dirname, join, resolve } from 'node:path';
import { DataError, isSystemError } from '../errors.ts';
import { writeWhole } from '../flush.ts';
import type { Results } from './evaluate.ts';
import { evaluationPage } from './html/evaluation.ts';
import { readRuns } from './html/runs.ts';
import { markdown } from './report.ts';

/**
 * Writes the HTML page of runs, each a folder that `evaluate` wrote, side by side; `data` is the data folder where it is elsewhere than it was. Throws DataError
 * for a folder without results, and for a page that cannot be written.
 */
export async function writePage(
  path: string,
  folders: readonly string[],
  options: { readonly data?: string | undefined } = {},
): Promise<void> {
  const page = await evaluationPage(await readRuns(folders, options), dirname(resolve(path)));
  try {
    await writeWhole(path, page);
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw new DataError(`${path}: cannot be written: ${cause.message}`, { hint: 'name a file in a folder that is there', cause });
  }
}

/** Writes `report.md` and `report.html` beside the results in a folder. Throws DataError where there are none. */
export async function writeReport(folder: string, results: Results): Promise<void> {
  await writeWhole(join(folder, 'report.md'), markdown(results));
  await writePage(join(folder, 'report.html'), [folder]);
}
