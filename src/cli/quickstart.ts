import { Command, Option } from 'commander';
import { easyVqaFolder } from './cache.ts';
import type { DemoOptions } from './demo/demo.ts';
import { interruptible } from './interrupt.ts';
import { number, wholeNumber } from './options.ts';
import { print, printJson } from './print.ts';
import { StatusLine } from './quickstart/status-line.ts';

interface QuickstartFlags {
  readonly out?: string;
  readonly real?: true;
  readonly stamps?: string;
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

/** Where the parts and pictures of the demo lie, fetched where they are not there. */
async function fetchedDemo({ data, stamps }: QuickstartFlags, say: (text: string) => void): Promise<DemoOptions['sources']> {
  const { fetchDemo } = await import(new URL('../../scripts/setup/demo.mjs', import.meta.url).href);
  const found: DemoOptions['sources'] = await fetchDemo({ env: process.env, stamps: stamps === undefined, say });
  return { ...found, ...(data !== undefined && { easyVqa: data }), ...(stamps !== undefined && { stamps }) };
}

/** The verb `quickstart`. */
export function quickstartCommand(): Command {
  return new Command('quickstart')
    .description('train, evaluate and show a tiny multimodal model, in minutes on two cores')
    .option('--out <folder>', 'where the run goes, runs/quickstart or runs/demo; an earlier run there is replaced when this one is done')
    .addOption(
      new Option('--real', 'the demo: pre-trained parts learn to say what pictures show, in about 20 minutes').conflicts('minutes'),
    )
    .option('--minutes <number>', "train about this long on this machine instead of the recipe's steps", number)
    .addOption(new Option('--short', 'a few steps only, to see that everything works').conflicts('minutes'))
    .option('--seed <number>', 'another seed gives other weights and another order', wholeNumber(0), 0)
    .option('--data <folder>', 'folder of easy-VQA; the cache of set-up unless given')
    .option('--stamps <folder>', "for --real: folder of Tux Paint's stamps; the cache of set-up unless given")
    .option('--json', 'print one JSON document')
    .action(async ({ real, ...flags }: QuickstartFlags) => {
      using line = new StatusLine(process.stderr);
      await (real ? runDemo({ out: 'runs/demo', ...flags }, line) : runQuickstart({ out: 'runs/quickstart', ...flags }, line));
    });
}

type Flags = QuickstartFlags & { readonly out: string };

const screenColumns = (): number => (process.stdout.isTTY && process.stdout.columns) || 80;

async function runQuickstart(flags: Flags, line: StatusLine): Promise<void> {
  const { out, seed } = flags;
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
  else print(summary(result, { columns: screenColumns(), command: 'npx tinyllava' }));
}

async function runDemo(flags: Flags, line: StatusLine): Promise<void> {
  const { out, seed } = flags;
  const [{ announce, progress }, { brief, demo, whole }, { demoSummary }] = await Promise.all([
    import('./quickstart/launch.ts'),
    import('./demo/demo.ts'),
    import('./demo/demo-summary.ts'),
  ]);
  await announce(line, flags);
  const sources = await fetchedDemo(flags, (text) => line.say(text));
  const command = ['npm run demo --', ...(flags.short ? ['--short'] : []), `--seed ${seed}`].join(' ');
  const result = await interruptible((signal) =>
    demo({ out, sources, seed, extent: flags.short ? brief : whole, command, log: progress(line), signal }),
  );
  if (flags.json) printJson(result);
  else print(demoSummary(result, { columns: screenColumns(), command: 'npx tinyllava' }));
}
