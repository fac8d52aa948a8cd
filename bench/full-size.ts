// Builds the language models of TinyLLaVA's paper with their towers at full size from random weights, saves them in bfloat16, opens them again, asks them and trains
// one step; writes docs/results/full-size.json. Takes 24 GiB of memory at most, and 8 GB of disk at a time.
//   npx tsx bench/full-size.ts [TOWER LANGUAGE]
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { version } from '../src/version.ts';
import { combinations } from './full-size/models.ts';
import { processor } from './machine.ts';

const root = join(import.meta.dirname, '..');
const target = join(root, 'docs/results/full-size.json');

/** What one phase reported, and how long its process ran. */
type Phase = Readonly<Record<string, number>>;
export interface FullSize {
  readonly tower: string;
  readonly language: string;
  readonly build: Phase;
  readonly ask: Phase;
  readonly train: Phase;
}

function run(phase: string, folder: string, tower: string, language: string): Phase {
  const script = join(import.meta.dirname, 'full-size/phases.ts');
  const { status, stdout } = spawnSync(process.execPath, ['--import', 'tsx', script, phase, folder, tower, language], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${phase} of ${language} with ${tower} ended with ${status}`);
  const result = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Phase;
  console.error(`${language} with ${tower}: ${phase} ${JSON.stringify(result)}`);
  return result;
}

const [onlyTower, onlyLanguage] = process.argv.slice(2);
const wanted = combinations.filter(
  ([tower, language]) => (!onlyTower || tower === onlyTower) && (!onlyLanguage || language === onlyLanguage),
);
const known = existsSync(target) ? (JSON.parse(readFileSync(target, 'utf8')) as { models: readonly FullSize[] }).models : [];
const models = new Map(known.map((model) => [`${model.tower} ${model.language}`, model]));
for (const [tower, language] of wanted) {
  const scratch = mkdtempSync(join(root, 'build/full-size-'));
  try {
    const folder = join(scratch, 'model');
    const [build, ask, train] = (['build', 'ask', 'train'] as const).map((phase) => run(phase, folder, tower, language)) as [
      Phase,
      Phase,
      Phase,
    ];
    models.set(`${tower} ${language}`, { tower, language, build, ask, train });
    const ordered = combinations.flatMap(([t, l]) => models.get(`${t} ${l}`) ?? []);
    writeFileSync(target, `${JSON.stringify({ version, machine: processor().name, models: ordered }, null, 2)}\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
