import { join } from 'node:path';
import { Command } from 'commander';
import { columns, print, printJson } from './print.ts';

const percent = (share: number): string => `${share > 0 ? '+' : ''}${(100 * share).toFixed(2)}`;

/** The verb `compare`. */
export function compareCommand(): Command {
  return new Command('compare')
    .description('how two evaluations differ on the same questions')
    .argument('<first>', 'folder that `eval --out` wrote')
    .argument('<second>', 'folder of another run')
    .option('--json', 'print one JSON document')
    .action(async (first: string, second: string, { json }: { json?: true }) => {
      const [{ compareRuns }, { readSamples }, { readdir }] = await Promise.all([
        import('../evaluate/compare.ts'),
        import('../evaluate/samples-file.ts'),
        import('node:fs/promises'),
      ]);
      const samplesIn = async (folder: string): Promise<string[]> =>
        (await readdir(folder)).filter((name) => /^samples_.*\.jsonl$/.test(name));
      const others = await samplesIn(second);
      const shared = (await samplesIn(first)).filter((name) => others.includes(name));
      if (shared.length === 0) {
        const { DataError } = await import('../errors.ts');
        throw new DataError(`${first} and ${second} have no task in common`, {
          hint: 'name folders that `eval --out` wrote, with samples_<task>.jsonl in both',
        });
      }
      const all = await Promise.all(
        shared.map(async (name) => {
          const comparison = compareRuns(await readSamples(join(first, name)), await readSamples(join(second, name)));
          return { task: name.replace(/^samples_(.*)\.jsonl$/, '$1'), ...comparison };
        }),
      );
      if (json) return printJson(all);
      const rows = all.map(({ task, samples, mean, rightOrWrong, better, worse }) => {
        const { difference, interval, pValue } = mean;
        return [
          task,
          samples,
          `${percent(difference)} points`,
          `${percent(interval.low)} to ${percent(interval.high)}`,
          better.length,
          worse.length,
          (rightOrWrong?.pValue ?? pValue).toPrecision(2),
        ];
      });
      for (const line of columns([['task', 'questions', 'mean score', '95 % interval', 'better', 'worse', 'p'], ...rows])) print(line);
    });
}
