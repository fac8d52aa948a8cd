import { availableParallelism } from 'node:os';
import { silent } from '../log.ts';
import { type Choice, checkCleanFile, writeClean } from './inspection/clean.ts';
import type { FileFacts, FileLook } from './inspection/images.ts';
import { isSpread, Looker, type LookSettings, spread } from './inspection/looker.ts';
import type { RowFacts } from './inspection/rows.ts';
import { Tally } from './inspection/tally.ts';
import { type Eyes, inOrder, LookingThread } from './inspection/threads.ts';
import { openRows } from './open-rows.ts';
import { placeIn } from './place-in.ts';
import type { DataReport, InspectOptions } from './report.ts';
import type { RowSource } from './rows.ts';

/** What one look takes in. */
const [rowsAtOnce, filesAtOnce] = [250, 64];
/** Fewer rows are looked at before a thread has started. */
const manyRows = 2000;

/**
 * Looks through a file of conversations and its images for what training would meet; the report is the same whatever the threads. Throws DataError
 * when the file cannot be opened or `fix` exists, and what aborted the signal.
 */
export async function inspectData(file: string, options: InspectOptions = {}): Promise<DataReport> {
  const { imageFolder, minRatings, rows = Number.POSITIVE_INFINITY, problems = 100, ignore = [], fix, signal } = options;
  if (fix !== undefined) await checkCleanFile(fix);
  using dataset = await openRows(file, { minRatings, ...(imageFolder !== undefined && { imageFolder }) });
  const count = Math.min(dataset.length, rows);
  const rowAt = (place: number): number => spread(place, dataset.length, count);
  const name = (place: number): string => dataset.nameOf(rowAt(place));
  const tally = new Tally({ count, name, problems, ignore: new Set(ignore), reasons: fix !== undefined });
  {
    await using watch = await openWatch(file, count, options);
    await lookAtRows(watch.eyes, tally, {
      ...options,
      count,
      end: count === dataset.length ? stretches(dataset) : (from) => from + rowsAtOnce,
    });
    await lookAtFiles(watch.eyes, tally, options);
  }
  const report = tally.report();
  function* choices(): Iterable<Choice> {
    for (let place = 0; place < count; place++) yield { row: rowAt(place), flaw: tally.reason(place) };
  }
  const fixed = fix === undefined ? undefined : await writeClean(dataset, fix, { choices, signal });
  return { file: dataset.file, rows: dataset.length, leftOut: dataset.leftOut, inspected: count, ...report, fixed };
}

/** Ends of stretches of rows: no two have rows of one block that is read as a whole, so that no two threads read it. */
function stretches({ parts, length }: RowSource): (from: number) => number {
  const blocks = parts.flatMap((part) => part.blocks);
  if (blocks.every(({ memory }) => memory === 0)) return (from) => from + rowsAtOnce;
  const ends: number[] = [0];
  for (const { rows } of blocks) ends.push((ends.at(-1) ?? 0) + rows);
  return (from) => ends[placeIn(ends, Math.max(from + rowsAtOnce, ends[placeIn(ends, from) + 1] ?? length))] ?? length;
}

async function lookAtRows(
  eyes: readonly Eyes[],
  tally: Tally,
  { count, end, signal, log = silent }: InspectOptions & { count: number; end: (from: number) => number },
): Promise<void> {
  const look = (one: Eyes, from: number, to: number): Promise<RowFacts[]> => one.rows(from, to);
  const take = (found: RowFacts[], from: number): void => {
    for (const [i, facts] of found.entries()) tally.row(from + i, facts);
    log({ event: 'inspected', rows: from + found.length, of: count });
  };
  await inOrder(eyes, { count, size: rowsAtOnce, end, signal }, { look, take });
}

/** Looks for every file, and decodes images. */
async function lookAtFiles(eyes: readonly Eyes[], tally: Tally, { decode, signal, log = silent }: InspectOptions): Promise<void> {
  const files = tally.files();
  const looks = (from: number, to: number): FileLook[] =>
    files
      .slice(from, to)
      .map(({ path, video }, i) => ({ path, decode: !video && isSpread(from + i, files.length, decode ?? files.length) }));
  const look = (one: Eyes, from: number, to: number): ReturnType<Eyes['files']> => one.files(looks(from, to));
  const take = (found: readonly FileFacts[], from: number): void => {
    for (const [i, facts] of found.entries()) tally.file(from + i, files[from + i]?.path ?? '', facts);
    log({ event: 'inspected', images: from + found.length, of: files.length });
  };
  await inOrder(eyes, { count: files.length, size: filesAtOnce, signal }, { look, take });
}

/** Threads that look, or the calling one; the end of the block ends them. */
async function openWatch(file: string, count: number, options: InspectOptions): Promise<AsyncDisposable & { eyes: readonly Eyes[] }> {
  const { imageFolder, minRatings, model, maxLength, rows, samples, decode, processor } = options;
  const settings: LookSettings = { file, imageFolder, minRatings, model, maxLength, rows, samples, decode };
  const { threads = count < manyRows ? 0 : Math.min(8, availableParallelism()) } = options;
  if (threads === 0 || processor) {
    const looker = await Looker.open(settings, processor);
    return { eyes: [looker], [Symbol.asyncDispose]: async () => looker.close() };
  }
  const started = Array.from({ length: threads }, () => new LookingThread(settings));
  return { eyes: started, [Symbol.asyncDispose]: async () => void (await Promise.all(started.map((thread) => thread.close()))) };
}
