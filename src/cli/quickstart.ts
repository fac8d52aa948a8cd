import { Command, Option } from 'commander';
import { easyVqaFolder } from './cache.ts';
import { interruptible } from './interrupt.ts';
import { number, wholeNumber } from './options.ts';
import { print, printJson } from './print.ts';
import { StatusLine } from './quickstart/status-line.ts';

interface QuickstartFlags {
  readonly out: string;
  readonly minutes?: number;
  readonly short?: true;
  readonly seed: number;
  readonly data?: string;
  readonly json?: true;
}

/** Set-up has to run before anything is compiled, so what fetches data is written in plain JavaScript outside src/. */
async function fetchedData(say: (text: string) => void): Promise<string> {
  const folder = easyVqaFolder(process.env);
  const { fetchEasyVqa } = await import(new URL('../../scripts/setup/easy-vqa.mjs', import.meta.url).href);
  await fetchEasyVqa({ env: process.env, say });
  return folder;
}

/** The verb `quickstart`. */
export function quickstartCommand(): Command {
  return new Command('quickstart')
    .description('train, evaluate and show a tiny multimodal model, in minutes on two cores')
    .option('--out <folder>', 'where the run goes; an earlier run there is replaced when this one is done', 'runs/quickstart')
    .option('--minutes <number>', "train about this long on this machine instead of the recipe's steps", number)
    .addOption(new Option('--short', 'a few steps only, to see that everything works').conflicts('minutes'))
    .option('--seed <number>', 'another seed gives other weights and another order', wholeNumber(0), 0)
    .option('--data <folder>', 'folder of easy-VQA; the cache of set-up unless given')
    .option('--json', 'print one JSON document')
    .action(async (flags: QuickstartFlags) => {
      const { out, seed } = flags;
      using line = new StatusLine(process.stderr);
      const [{ announce, extentFor, goalsFor, progress }, { quickstart }, { summary }] = await Promise.all([
        import('./quickstart/launch.ts'),
        import('./quickstart/quickstart.ts'),
        import('./quickstart/summary.ts'),
      ]);
      await announce(line, flags);
      const data = flags.data ?? (await fetchedData((text) => line.say(text)));
      const result = await interruptible(async (signal) => {
        const extent = await extentFor(flags, { data, line, signal });
        const command = [
          'npm run quickstart --',
          ...(flags.short ? ['--short'] : []),
          ...(flags.minutes ? [`--minutes ${flags.minutes}`] : []),
          `--seed ${seed}`,
        ].join(' ');
        return quickstart({ out, data, seed, extent, goals: goalsFor(flags), command, log: progress(line), signal });
      });
      if (flags.json) printJson(result);
      else print(summary(result, { columns: (process.stdout.isTTY && process.stdout.columns) || 80, command: 'npx tinyllava' }));
    });
}
