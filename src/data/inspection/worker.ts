import { parentPort, workerData } from 'node:worker_threads';
import { type SentError, sentError } from '../../thread.ts';
import type { FileFacts, FileLook } from './images.ts';
import { Looker, type LookSettings } from './looker.ts';
import type { RowFacts } from './rows.ts';

/** What a thread is asked to look at. */
export type Job = { readonly from: number; readonly to: number } | { readonly files: readonly FileLook[] };

/** What it found, or the error that it ended with. */
export type Found = { readonly found: RowFacts[] | FileFacts[] } | { readonly failed: SentError };

const opening = Looker.open(workerData as LookSettings);
opening.catch(() => {}); // reported with the first job

parentPort?.on('message', async (job: Job) => {
  try {
    const looker = await opening;
    const found = 'files' in job ? await looker.files(job.files) : await looker.rows(job.from, job.to);
    parentPort?.postMessage({ found } satisfies Found);
  } catch (error) {
    parentPort?.postMessage({ failed: sentError(error as SentError) } satisfies Found);
  }
});
