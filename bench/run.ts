// npm run bench [-- name… --rounds N --threads N --patience SECONDS]: our programs beside Python's, and a page for each in bench/results/.
//   --only VARIANT and --peers NAME pick among the variants (their words joined by -) and the peers; the page is then printed, and written with --write
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchmarks } from './benchmarks.ts';
import { compile, type Peer, peersOf, prepare, round, type Settings } from './harness.ts';
import { processor } from './machine.ts';
import { type Result, report } from './report.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    patience: { type: 'string', default: '60' },
    only: { type: 'string', multiple: true, default: [] },
    peers: { type: 'string', multiple: true, default: [] },
    write: { type: 'boolean', default: false },
  },
});
const settings: Settings = {
  python: process.env['TINYLLAVA_PYTHON'] ?? 'python3',
  data: join(import.meta.dirname, '../build/bench'),
  threads: Number(values.threads),
  rounds: Number(values.rounds),
  patienceSeconds: Number(values.patience),
};

const chosen = benchmarks.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const variantName = (variant: readonly string[]): string => variant.join('-');

/** Ends with exit code 2 where a word is none of those known. */
function checkWords(what: string, words: readonly string[], known: readonly string[]): void {
  const unknown = words.filter((word) => !known.includes(word));
  if (unknown.length === 0) return;
  console.error(`unknown ${what} ${unknown.join(', ')}\nfix: use one of ${known.join(', ')}`);
  process.exit(2);
}

const succeeds = (command: string, ...args: readonly string[]): boolean => spawnSync(command, args).status === 0;
const imports = (modules: string): boolean => succeeds(settings.python, '-c', `import ${modules}`);

/** Why a peer, or all of a benchmark, cannot run here. */
function missing({ needs, compiles }: Pick<Peer, 'needs' | 'compiles'>): string | undefined {
  if (needs !== undefined && !imports(needs)) return `${settings.python} cannot import ${needs}`;
  return compiles && !succeeds(process.env['CXX'] ?? 'g++', '--version') ? 'there is no C++ compiler' : undefined;
}

/** Whether it can run; says why where it cannot. */
function runs(name: string, needs: Pick<Peer, 'needs' | 'compiles'>): boolean {
  const why = missing(needs);
  if (why !== undefined) console.error(`${name} skipped: ${why}`);
  return why === undefined;
}

checkWords(
  'benchmark',
  positionals,
  benchmarks.map(({ name }) => name),
);
checkWords(
  'variant',
  values.only,
  chosen.flatMap(({ variants }) => variants.map(variantName)),
);
checkWords(
  'peer',
  values.peers,
  chosen.flatMap((benchmark) => peersOf(benchmark).map(({ name }) => name)),
);
if (!imports('torch, transformers')) {
  console.error(`skipped: ${settings.python} cannot import torch and transformers\nfix: name a Python that can in TINYLLAVA_PYTHON`);
  process.exit(0);
}

mkdirSync(join(import.meta.dirname, 'results'), { recursive: true });
compile();
const picked = (wanted: readonly string[], name: string): boolean => wanted.length === 0 || wanted.includes(name);
for (const benchmark of chosen) {
  if (!runs(benchmark.name, benchmark)) continue;
  const peers = peersOf(benchmark).filter((peer) => picked(values.peers, peer.name) && runs(`${benchmark.name} ${peer.name}`, peer));
  if (peers.length === 0) continue;
  const variants = benchmark.variants.filter((variant) => picked(values.only, variantName(variant)));
  await prepare(benchmark, settings);
  const file = join(import.meta.dirname, 'results', `${benchmark.name}_${processor().slug}_${new Date().toISOString().slice(0, 10)}.md`);
  const writes = values.write || (values.only.length === 0 && values.peers.length === 0);
  const results: Result[] = [];
  const page = (): string => report({ ...benchmark, peers }, results, settings);
  for (const variant of variants) {
    const rounds = [];
    for (let index = 0; index < settings.rounds; index++) {
      rounds.push(await round(benchmark, { variant, peers, index, settings }));
      console.error(`${benchmark.name} ${variant.join(' ')} ${index + 1}/${settings.rounds}`);
    }
    results.push({ variant, rounds });
    // what was measured is not lost with what was not
    if (writes) writeFileSync(file, page());
  }
  console.log(page());
}
