import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../train/ranks.ts';
import { tinyData } from '../train/tiny-data.ts';
import { type Outcome, start, tinyllava } from './run.ts';

const recipe = 'recipes/tiny.cpu.yaml';
const short = ['--set', 'stages.0.epochs=1', '--set', 'stages.1.epochs=1'];
const endless = ['--set', 'stages.0.epochs=100000'];
let root: string;
let alone: readonly number[];
beforeAll(async () => {
  root = await tinyData();
  await expectTrained('alone', (flags) => start([...flags, '--threads', '1']).outcome);
  alone = lossesOf('alone');
});
afterAll(() => rm(root, { recursive: true }));

const train = (name: string): string[] => ['train', recipe, '--data', root, '--out', join(root, name)];
const events = (name: string): Record<string, unknown>[] =>
  readFileSync(join(root, name, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const lossesOf = (name: string): number[] =>
  events(name)
    .filter(({ event }) => event === 'step')
    .map(({ loss }) => Number(loss));

/** Trains both stages by what starts the ranks. */
async function expectTrained(name: string, launch: (flags: readonly string[]) => Promise<Outcome>): Promise<void> {
  const { code, stdout, stderr } = await launch([...train(name), ...short]);
  expect(stderr.replace(/[\s\S]*saved/, 'saved').trim()).toBe(`saved ${join(root, name, 'instruct')}`);
  expect({ code, stdout }).toEqual({ code: 0, stdout: `${join(root, name, 'align')}\n${join(root, name, 'instruct')}\n` });
}

function expectLossesOfOne(name: string): void {
  const found = lossesOf(name);
  expect(found.length).toBe(alone.length);
  for (const [i, loss] of found.entries()) expect(Math.abs(loss / (alone[i] ?? 0) - 1), `step ${i + 1}`).toBeLessThan(1e-4);
}

/** Waits until a run has saved or stepped. */
async function underWay(name: string): Promise<void> {
  const metrics = join(root, name, 'metrics.jsonl');
  while (!existsSync(metrics) || !readFileSync(metrics, 'utf8').includes('"step":2'))
    await new Promise((resolve) => setTimeout(resolve, 100));
}

/** Processes that train into a folder. */
const left = (name: string): string[] =>
  readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && entry !== String(process.pid))
    .filter((entry) => {
      try {
        return readFileSync(join('/proc', entry, 'cmdline'), 'utf8').includes(join(root, name));
      } catch {
        return false; // it has ended
      }
    });

test.each([[[]], [['--sharded']]])('--processes 2 %j trains what one process does', async (flags) => {
  const name = `two${flags.join()}`;
  await expectTrained(name, (own) => start([...own, '--processes', '2', ...flags]).outcome);
  expectLossesOfOne(name);
  const { launch } = JSON.parse(readFileSync(join(root, name, 'environment.json'), 'utf8')) as { launch: object };
  expect(launch).toMatchObject({ processes: 2, sharded: flags.length > 0 });
});

test('more processes than a step has rows leave some without', async () => {
  await expectTrained('many', (flags) => start([...flags, '--processes', '3', '--set', 'stages.0.batchSize=2']).outcome);
});

test.each(['SIGTERM', 'SIGINT'] as const)('%s to the launcher saves, ends with 75 and leaves no process', async (signal) => {
  const { child, outcome } = start([...train(signal), ...endless, '--processes', '2']);
  await underWay(signal);
  child.kill(signal);
  const { code, stderr } = await outcome;
  expect(code).toBe(75);
  expect(stderr).toMatch(/\nerror: interrupted; go on with --resume\n$/);
  expect(readdirSync(join(root, signal, 'state'))).toHaveLength(1);
  expect(left(signal)).toEqual([]);
});

test('a rank that is killed is named, and leaves no process', async () => {
  const { child, outcome } = start([...train('killed'), ...endless, '--processes', '2']);
  await underWay('killed');
  const [, second] = left('killed')
    .filter((process_) => process_ !== String(child.pid))
    .sort((a, b) => Number(a) - Number(b));
  process.kill(Number(second), 'SIGKILL');
  const { code, stderr } = await outcome;
  expect(code).toBe(1);
  expect(stderr).toMatch(/\nerror: rank 1 ended by SIGKILL\n {2}fix: the memory may not be enough; go on with --resume\n$/);
  expect(left('killed')).toEqual([]);
});

test.each(['0', '-1', 'two', '1.5'])('--processes %s is refused', async (count) => {
  const { code, stderr } = await tinyllava(...train('none'), '--processes', count);
  expect(code).toBe(2);
  expect(stderr).toContain(`argument '${count}' is invalid. expected a whole number from 1`);
});

test('--processes is refused where a launcher has started ranks already', async () => {
  const env = { RANK: '1', WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: '29500' };
  const { code, stderr } = await start([...train('nested'), '--processes', '2'], { env }).outcome;
  expect(code).toBe(1);
  expect(stderr).toBe(
    'error: --processes starts ranks, but by its environment this process is rank 1 of 2 already\n' +
      '  fix: leave --processes away behind torchrun and srun, or unset RANK and WORLD_SIZE\n',
  );
});

test.each([[[]], [['--dry-run']]])('one process alone is not sharded (%j)', async (flags) => {
  const { code, stderr } = await tinyllava('train', recipe, '--data', root, '--out', join(root, 'alone'), '--sharded', ...flags);
  expect(code).toBe(2);
  expect(stderr).toBe(
    'error: sharded is for several processes, and this is one\n' +
      '  fix: leave --sharded out, or start several with --processes, torchrun or srun\n',
  );
});

test('a dry run tells the memory of each of several processes', async () => {
  const memory = async (...flags: string[]): Promise<{ stdout: string; optimizer: number }> => {
    const dry = ['train', recipe, '--data', root, '--dry-run', ...flags];
    const [{ stdout }, { stdout: json }] = [await tinyllava(...dry), await tinyllava(...dry, '--json')];
    const { stages } = JSON.parse(json) as { stages: { memory: { optimizer: number } }[] };
    return { stdout, optimizer: stages[0]?.memory.optimizer ?? 0 };
  };
  const [one, replicated, sharded] = [await memory(), await memory('--processes', '4'), await memory('--processes', '4', '--sharded')];
  expect(replicated.stdout).toMatch(/memory {2}about \S+ MB in each of 4 processes: weights/);
  expect(sharded.stdout).toMatch(/memory {2}about \S+ MB in each of 4 processes: .*, gathered \S+ MB\n/);
  expect(replicated.optimizer).toBe(one.optimizer);
  expect(sharded.optimizer).toBe(one.optimizer / 4);
});

/** Two ranks by their environment, as a launcher sets it; what rank 0 said, with the worse exit code. */
async function byEnvironment(flags: readonly string[], env: (rank: number) => Record<string, string>): Promise<Outcome> {
  const all = await Promise.all([0, 1].map((rank) => start([...flags, '--threads', '1'], { env: env(rank) }).outcome));
  expect(all[1]).toMatchObject({ stdout: '', stderr: '' });
  return { ...all[0], code: Math.max(...all.map(({ code }) => code ?? 1)) } as Outcome;
}

test('ranks that the variables of PyTorch place train together', async () => {
  const port = await freePort();
  await expectTrained('variables', (flags) =>
    byEnvironment(flags, (rank) => ({ RANK: String(rank), WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(port) })),
  );
  expectLossesOfOne('variables');
});

test("ranks that SLURM's variables place train together", async () => {
  const step = { SLURM_JOB_ID: String(process.pid), SLURM_STEP_ID: '0', SLURM_STEP_NUM_TASKS: '2', SLURM_STEP_NODELIST: 'localhost' };
  await expectTrained('slurm', (flags) =>
    byEnvironment(flags, (rank) => ({ ...step, SLURM_PROCID: String(rank), SLURM_LOCALID: String(rank) })),
  );
  expectLossesOfOne('slurm');
});

const python = process.env['TINYLLAVA_PYTHON'] ?? 'python3';
const torchrun = spawnSync(python, ['-c', 'import torch.distributed.run']).status === 0;

// Needs a Python with torch: `python3`, or the one that TINYLLAVA_PYTHON names.
describe.skipIf(!torchrun)('torchrun', () => {
  const launch = (...more: string[]) => ['-m', 'torch.distributed.run', '--no-python', '--nproc-per-node', '2', ...more];

  test('starts ranks that train together', async () => {
    await expectTrained('torchrun', (flags) => start(flags, { launcher: [python, ...launch()] }).outcome);
    expectLossesOfOne('torchrun');
  });

  test('starts them again when one was killed, and they go on from what was saved', async () => {
    const flags = [...train('again'), ...endless, '--resume', '--save-every', '1'];
    const { child, outcome } = start(flags, { launcher: [python, ...launch('--max-restarts', '1')] });
    await underWay('again');
    const ranks = left('again').filter((pid) => !readFileSync(join('/proc', pid, 'cmdline'), 'utf8').includes('torch.distributed'));
    process.kill(Number(ranks.at(-1)), 'SIGKILL');
    await new Promise<void>((resolve) => child.stderr?.on('data', (said) => String(said).includes('goes on with') && resolve()));
    child.kill('SIGTERM');
    expect((await outcome).stderr).toMatch(/goes on with align behind step \d+\n/);
    expect(left('again')).toEqual([]);
  });
});
