import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { onOneThread, picture, tinyCheckpoint } from '../generate/tiny-model.ts';
import { start, tinyllava } from './run.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-processes-'));
const { folder: model, remove } = await tinyCheckpoint();
afterAll(() => {
  rmSync(root, { recursive: true });
  remove();
});
const data = join(root, 'data');
mkdirSync(data);
for (const i of [0, 1, 2]) writeFileSync(join(data, `${i}.png`), i === 2 ? 'no picture' : await picture(i));
const rows = Array.from({ length: 700 }, (_, i) => ({
  question_id: i,
  ...(i % 30 > 2 && { image: `${Math.floor(i / 9) % 3}.png` }),
  text: `what is this ?${' red'.repeat(i % 11)}`,
  answer: 'a',
}));
writeFileSync(join(data, 'questions.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
const command = (out: string, ...more: string[]): string[] => [
  ...['eval', model, '--tasks', 'vqa', '--data', data, '--out', out, '--batch-size', '4', '--threads', '2', ...more],
];
const files = (out: string): string[] =>
  ['samples_vqa.jsonl', 'results.json', 'run.json'].map((name) => readFileSync(join(out, name), 'utf8'));
const samples = (out: string): number => {
  try {
    return readFileSync(join(out, 'samples_vqa.jsonl'), 'utf8').split('\n').length - 1;
  } catch {
    return 0;
  }
};

/** The processes that a process has started and that run this program. */
const children = (pid: number): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => {
      try {
        const stat = readFileSync(`/proc/${child}/stat`, 'utf8');
        return (
          Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid &&
          readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('eval-worker')
        );
      } catch {
        return false;
      }
    });

test.skipIf(process.platform !== 'linux')(
  'several processes give the files of one, also when one of them is killed and the run goes on',
  async () => {
    const one = join(root, 'one');
    expect((await tinyllava(...command(one))).code).toBe(0);
    const several = join(root, 'several');
    const { child, outcome } = start(command(several, '--processes', '3'));
    while (samples(several) < 5) await wait(5);
    const workers = children(child.pid ?? 0);
    expect(workers).toHaveLength(3);
    process.kill(workers[1] ?? 0, 'SIGKILL');
    const { code, stderr, stdout } = await outcome;
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /error: process \d of 3 \(pid \d+\) was ended by SIGKILL before all was answered\n {2}fix: what was answered is kept with --out: go on by --resume/,
    );
    expect(workers.filter((pid) => children(child.pid ?? 0).includes(pid))).toEqual([]);
    const kept = samples(several);
    expect(kept).toBeLessThan(rows.length);
    const second = await start(command(several, '--processes', '2', '--resume')).outcome;
    expect(second).toMatchObject({ code: 0 });
    expect(files(several)).toEqual(files(one));
    expect(JSON.parse(readFileSync(join(several, 'timings.json'), 'utf8')).tasks.vqa.asked).toBeLessThanOrEqual(rows.length - kept + 400);
  },
);

test('processes that cannot open the model say why, once', async () => {
  const { code, stderr } = await start(['eval', join(root, 'nothing'), '--tasks', 'vqa', '--data', data, '--processes', '2']).outcome;
  expect(code).toBe(1);
  expect(stderr.match(/fix:/g)).toHaveLength(1);
  expect(stderr).toContain('nothing');
});
