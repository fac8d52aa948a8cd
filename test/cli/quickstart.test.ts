import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lockFolder } from '../../src/folder-lock.ts';
import { loadModel } from '../../src/generate/generate.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { drawings } from './drawings.ts';
import { start, tinyllava } from './run.ts';

const usual = threads();
let data: string;
let out: string;
beforeAll(async () => {
  setThreads(1);
  data = await drawings({ train: 200, test: 30 });
  out = join(data, 'runs/first');
});
afterAll(async () => {
  setThreads(usual);
  await rm(data, { recursive: true });
});

const runs = async (): Promise<string[]> => (await readdir(join(data, 'runs'))).sort();

test('a short run trains, evaluates, asks five questions and leaves a whole folder', async () => {
  const { code, stdout, stderr } = await tinyllava('quickstart', '--short', '--data', data, '--out', out);
  expect(stderr).toMatch(/^data {7}40 captions {2}200 questions\nalign {6}100 % {2}loss .*\ninstruct {3}100 % .*\n/);
  expect(code).toBe(0);
  expect(await runs()).toEqual(['first']);
  expect((await readdir(out)).sort()).toEqual([
    'align',
    'data',
    'environment.json',
    'instruct',
    'metrics.jsonl',
    'quickstart.json',
    'recipe.yaml',
    'report.html',
    'results.json',
    'run.json',
    'samples_easy-vqa.jsonl',
    'tensorboard',
    'timings.json',
  ]);
  expect(stdout).toMatch(/questions +model +95 % interval +majority +question only\nall +100 /);
  expect(stdout.match(/first\/data\/test\/images\/\d+\.png:/g)).toHaveLength(5);
  expect(stdout).toMatch(/its scores\s+mean nothing\./);
  expect(stdout).toContain(`ask ${join(out, 'instruct')} --image`);
});

test('the page of the run shows its own numbers', async () => {
  const page = await readFile(join(out, 'report.html'), 'utf8');
  const { tasks } = JSON.parse(await readFile(join(out, 'results.json'), 'utf8'));
  for (const { name, value } of tasks['easy-vqa'].metrics) expect(page).toContain(`title="${name}: ${(100 * value).toFixed(1)}\u00a0%`);
  expect(page.match(/<li><img/g)).toHaveLength(5);
  expect(page).toContain('npm run quickstart -- --short --seed 0');
  expect(page).not.toMatch(/NaN|undefined|unknown/);
});

test('the checkpoint answers, and the same seed gives the same model and answers', async () => {
  const again = join(data, 'runs/again');
  const { code, stdout } = await tinyllava('quickstart', '--short', '--data', data, '--out', again, '--json');
  expect(code).toBe(0);
  const { scores, asked, checkpoint, goalsReached } = JSON.parse(stdout);
  expect({ checkpoint, goalsReached, count: scores[0].count, asked: asked.length }).toEqual({
    checkpoint: join(again, 'instruct'),
    goalsReached: true,
    count: 100,
    asked: 5,
  });
  const [first, second] = await Promise.all([out, again].map((folder) => readFile(join(folder, 'instruct/model.safetensors'))));
  expect(second?.equals(first ?? Buffer.alloc(0))).toBe(true);
  const model = await loadModel(checkpoint);
  const { image, question, answer } = asked[0];
  const { text } = await model.generate({ messages: [{ role: 'user', content: question }], images: [image], maxNewTokens: 8 });
  model.free();
  expect(text).toBe(answer);
  await rm(again, { recursive: true });
});

test('a second run says that it replaces the first when it is done', async () => {
  const before = await readFile(join(out, 'quickstart.json'), 'utf8');
  const { code, stderr } = await tinyllava('quickstart', '--short', '--seed', '1', '--data', data, '--out', out);
  expect(code).toBe(0);
  expect(stderr.replaceAll(/\s+/g, ' ')).toMatch(/ holds a run of \S+ \S+ UTC; it stays until this one is done, and is then replaced\. /);
  expect(JSON.parse(await readFile(join(out, 'quickstart.json'), 'utf8'))).toMatchObject({ seed: 1 });
  expect(JSON.parse(before)).toMatchObject({ seed: 0 });
  expect(await runs()).toEqual(['first']);
});

test('minutes become steps by what a few steps take', async () => {
  const other = join(data, 'runs/minutes');
  const { code, stderr, stdout } = await tinyllava('quickstart', '--minutes', '0.001', '--data', data, '--out', other);
  expect(stderr.replaceAll(/\s+/g, ' ')).toMatch(/^The recipe takes .* here; steps for 0.001 min: align 1, instruct 1\. /);
  expect(stdout).toMatch(/goal\nall .* 96 % MISSED\nshape .* 97 % MISSED\n/);
  expect(stdout).toContain('Goals missed: all, shape, colour, yes/no.');
  expect(code).toBe(0);
  await rm(other, { recursive: true });
});

test('an interrupted run leaves the earlier one as it was and nothing else', async () => {
  const { child, outcome } = start(['quickstart', '--data', data, '--out', out]);
  child.stderr?.on('data', (text) => {
    if (String(text).includes('captions')) child.kill('SIGINT');
  });
  const { code, stderr } = await outcome;
  expect(stderr).toContain('interrupted');
  expect(code).toBe(130);
  expect(await runs()).toEqual(['first']);
  expect(JSON.parse(await readFile(join(out, 'quickstart.json'), 'utf8'))).toMatchObject({ seed: 1 });
});

test('a folder with other files, one in use and an impossible time are refused before anything is done', async () => {
  const refused = async (...flags: string[]): Promise<string> => {
    const { code, stdout, stderr } = await tinyllava('quickstart', '--data', data, ...flags);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    return stderr.replaceAll(data, 'DATA').replaceAll(`${process.pid} on ${hostname()}`, 'ID on HOST');
  };
  const busy = join(data, 'busy');
  await mkdir(`${busy}.partial`);
  using _held = lockFolder(`${busy}.partial`, { work: 'quickstart' });
  expect([await refused('--out', data), await refused('--out', busy), await refused('--minutes', '0')].join('')).toMatchInlineSnapshot(`
    "error: DATA holds files that are not of a quickstart: busy.partial, runs, test, …
      fix: name another folder with --out
    error: DATA/busy.partial is being written by another quickstart run (process ID on HOST)
      fix: wait for it, or name another folder with --out
    error: --minutes 0: expected more than 0
      fix: try --minutes 3, or --short
    "
  `);
});

test('what a killed run left is cleared away, and data that is not there is named', async () => {
  const stale = `${out}.partial`;
  await cp(join(out, 'data'), stale, { recursive: true });
  await writeFile(join(stale, 'quickstart.lock'), JSON.stringify({ host: hostname(), pid: 999_999_999, started: '' }));
  const { code, stderr } = await tinyllava('quickstart', '--short', '--data', join(data, 'nowhere'), '--out', out);
  expect(code).toBe(1);
  expect(stderr).toContain(`error: ${join(data, 'nowhere')}: no test/questions.json of easy-vqa`);
  expect(await runs()).toEqual([basename(out)]);
});
