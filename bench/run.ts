// npm run bench [-- name… --rounds N --threads N --patience SECONDS]: our programs beside Python's, and a page for each in bench/results/.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchmarks } from './benchmarks.ts';
import { prepare, round, type Settings } from './harness.ts';
import { processor } from './machine.ts';
import { type Result, report } from './report.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    patience: { type: 'string', default: '60' },
  },
});
const settings: Settings = {
  python: process.env['TINYLLAVA_PYTHON'] ?? 'python3',
  data: join(import.meta.dirname, '../build/bench'),
  threads: Number(values.threads),
  rounds: Number(values.rounds),
  patienceSeconds: Number(values.patience),
};

const known = benchmarks.map(({ name }) => name);
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`unknown benchmark ${unknown.join(', ')}\nfix: use one of ${known.join(', ')}`);
  process.exit(2);
}
if (spawnSync(settings.python, ['-c', 'import torch, transformers']).status !== 0) {
  console.error(`skipped: ${settings.python} cannot import torch and transformers\nfix: name a Python that can in TINYLLAVA_PYTHON`);
  process.exit(0);
}

mkdirSync(join(import.meta.dirname, 'results'), { recursive: true });
for (const benchmark of benchmarks.filter(({ name }) => positionals.length === 0 || positionals.includes(name))) {
  if (benchmark.needs !== undefined && spawnSync(settings.python, ['-c', `import ${benchmark.needs}`]).status !== 0) {
    console.error(`${benchmark.name} skipped: ${settings.python} cannot import ${benchmark.needs}`);
    continue;
  }
  await prepare(benchmark, settings);
  const results: Result[] = [];
  for (const variant of benchmark.variants) {
    const rounds = [];
    for (let index = 0; index < settings.rounds; index++) {
      rounds.push(await round(benchmark, variant, index, settings));
      console.error(`${benchmark.name} ${variant.join(' ')} ${index + 1}/${settings.rounds}`);
    }
    results.push({ variant, rounds });
  }
  const page = report(benchmark, results, settings);
  const file = join(import.meta.dirname, 'results', `${benchmark.name}_${processor().slug}_${new Date().toISOString().slice(0, 10)}.md`);
  writeFileSync(file, page);
  console.log(page);
}
