import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { DataError, UsageError } from '../errors.ts';
import type { Comparison } from '../evaluate/compare.ts';
import { columns, print, printJson } from './print.ts';

const percent = (share: number): string => `${share > 0 ? '+' : ''}${(100 * share).toFixed(2)}`;

/** The verb `compare`. */
export function compareCommand(): Command {
  return new Command('compare')
    .description('how evaluations differ on the same questions')
    .argument('<runs...>', 'folders that `eval --out` wrote; all are compared with the first')
    .option('--html <file>', 'write one page with the runs side by side and every question that changed')
    .option('--data <folder>', 'where the images of the page are, when they are no longer where the runs found them')
    .option('--json', 'print one JSON document')
    .action(async ([first = '', ...others]: string[], { html, data, json }: { html?: string; data?: string; json?: true }) => {
      if (html !== undefined) {
        const { writePage } = await import('../evaluate/write-report.ts');
        await writePage(html, [first, ...others], { data });
      } else if (others.length === 0) {
        throw new UsageError(`${first} alone is nothing to compare`, {
          hint: 'name a second run, or write the page of one with --html FILE',
        });
      }
      const all = (await Promise.all(others.map((other) => compared(first, other)))).flat();
      const failed = all.filter(isNot).find(({ fix }) => fix !== undefined);
      if (failed?.fix !== undefined && !all.some(isCompared)) {
        throw new DataError(`${failed.task} of ${first} and ${failed.run}: ${failed.unscored}`, { hint: failed.fix });
      }
      if (json) return printJson(all);
      if (all.length === 0) return;
      const several = others.length > 1;
      const rows = all.filter(isCompared).map(({ task, run, samples, mean, rightOrWrong, better, worse }) => {
        const { difference, interval, pValue } = mean;
        return [
          ...(several ? [run] : []),
          task,
          samples,
          percent(difference),
          `${percent(interval.low)} to ${percent(interval.high)}`,
          better.length,
          worse.length,
          (rightOrWrong?.pValue ?? pValue).toPrecision(2),
        ];
      });
      const head = [...(several ? ['run'] : []), 'task', 'questions', 'mean score, of 100', '95 % interval', 'better', 'worse', 'p'];
      if (rows.length > 0) for (const line of columns([head, ...rows])) print(line);
      for (const other of others) {
        const apart = new Set(all.flatMap(({ run, unlike = [] }) => (run === other ? unlike : [])));
        if (apart.size > 0) print(`${other} differs from ${first} in more than the model: ${[...apart].join('; ')}`);
      }
      for (const { task, run, unscored, fix } of all.filter(isNot)) {
        print(`${several ? `${run}, ` : ''}${task} is not compared: ${unscored}${fix === undefined ? '' : `; ${fix}`}`);
      }
    });
}

/** What came of one task of a run against the same of the first: how they differ, or why that is not known. */
type Compared = Named & (Comparison | NotCompared);

interface Named {
  readonly task: string;
  readonly run: string;
  /** What beside the model tells the runs apart. */
  readonly unlike?: readonly string[];
}

interface NotCompared {
  readonly unscored: string;
  /** What to do about it, where something is wrong. */
  readonly fix?: string;
}

const isCompared = (one: Compared): one is Named & Comparison => 'mean' in one;
const isNot = (one: Compared): one is Named & NotCompared => !isCompared(one);

/** The second of two runs against the first, on every task that both have. Throws DataError where there is none. */
async function compared(first: string, second: string): Promise<Compared[]> {
  const [{ compareRuns, unlike, whyNotCompared }, { readResults }, { readSamples }, { readdir }] = await Promise.all([
    import('../evaluate/compare.ts'),
    import('../evaluate/html/runs.ts'),
    import('../evaluate/samples-file.ts'),
    import('node:fs/promises'),
  ]);
  const samplesIn = async (folder: string): Promise<string[]> =>
    (await readdir(folder).catch(() => [])).filter((name) => /^samples_.*\.jsonl$/.test(name));
  const others = await samplesIn(second);
  const shared = (await samplesIn(first)).filter((name) => others.includes(name));
  if (shared.length === 0) {
    const gone = [first, second].find((folder) => !existsSync(folder));
    if (gone !== undefined) throw new DataError(`${gone}: no such folder`, { hint: 'name folders that `eval --out` wrote' });
    throw new DataError(`${first} and ${second} have no task in common`, {
      hint: 'name folders that `eval --out` wrote, with samples_<task>.jsonl in both',
    });
  }
  // A run that is not finished has samples alone.
  const results = await Promise.all(
    [first, second].map((folder) => (existsSync(join(folder, 'results.json')) ? readResults(folder) : undefined)),
  );
  return Promise.all(
    shared.map(async (name): Promise<Compared> => {
      const task = name.replace(/^samples_(.*)\.jsonl$/, '$1');
      const unscored = whyNotCompared(task, results);
      if (unscored !== undefined) return { task, run: second, unscored };
      const [before, after] = await Promise.all([first, second].map((folder) => readSamples(join(folder, name))));
      try {
        const apart = unlike(task, results[0], results[1]);
        return { task, run: second, ...(apart.length > 0 && { unlike: apart }), ...compareRuns(before ?? [], after ?? []) };
      } catch (cause) {
        if (!(cause instanceof DataError)) throw cause;
        const unfinished = [first, second].find((_, i) => results[i] === undefined);
        const fix = unfinished === undefined ? cause.hint : `go on with ${unfinished}, which is not finished, by \`eval --resume\``;
        return { task, run: second, unscored: cause.message, ...(fix !== undefined && { fix }) };
      }
    }),
  );
}
