import { dirname, join, resolve } from 'node:path';
import { writeWhole } from '../flush.ts';
import type { Results } from './evaluate.ts';
import { evaluationPage } from './html/evaluation.ts';
import { readRuns } from './html/runs.ts';
import { markdown } from './report.ts';

/**
 * Writes the HTML page of runs, each a folder that `evaluate` wrote, side by side; `data` is the data folder where it is elsewhere than it was. Throws DataError
 * for a folder without results.
 */
export async function writePage(
  path: string,
  folders: readonly string[],
  options: { readonly data?: string | undefined } = {},
): Promise<void> {
  await writeWhole(path, await evaluationPage(await readRuns(folders, options), dirname(resolve(path))));
}

/** Writes `report.md` and `report.html` beside the results in a folder. Throws DataError where there are none. */
export async function writeReport(folder: string, results: Results): Promise<void> {
  await writeWhole(join(folder, 'report.md'), markdown(results));
  await writePage(join(folder, 'report.html'), [folder]);
}
