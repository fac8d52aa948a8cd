import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { StatusLine } from '../../src/cli/quickstart/status-line.ts';
import { describeDryRun, trainingProgress } from '../../src/cli/train.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { tinyData } from '../train/tiny-data.ts';
import { start, tinyllava } from './run.ts';

const recipe = 'recipes/tiny.cpu.yaml';
const short = ['--set', 'stages.0.epochs=1', '--set', 'stages.1.epochs=1'];
const tower = '{ type: clip, hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 2, numAttentionHeads: 2, imageSize: 16, patchSize: 4 }';
const usual = threads();
let root: string;
let launch: readonly string[];
beforeAll(async () => {
  root = await tinyData();
  launch = ['--data', root, '--threads', '1'];
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

test('train writes a checkpoint for each stage and prints their folders', async () => {
  const out = join(root, 'run');
  const flags = [...launch, '--out', out, '--micro-batch', '4', '--set', `model.vision=${tower}`, ...short];
  const { code, stdout, stderr } = await tinyllava('train', recipe, ...flags);
  expect(code).toBe(0);
  expect(stdout).toBe(`${join(out, 'align')}\n${join(out, 'instruct')}\n`);
  expect((await readdir(out)).sort()).toEqual(['align', 'environment.json', 'instruct', 'metrics.jsonl', 'recipe.yaml', 'tensorboard']);
  const steady = stderr
    .replaceAll(root, 'ROOT')
    .replace(/\d\.\d+ {2}0 s/g, 'LOSS  0 s')
    .replace(/[\d,]+ tokens/g, 'N tokens');
  expect(steady).toMatchInlineSnapshot(`
    "align: 12 rows, 2 steps, 45.8 k parameters learn
    align 2/2  loss LOSS  0 s left  lr 1.00e-2  N tokens/s
    saved ROOT/run/align
    instruct: 33 rows, 5 steps, 26.5 k parameters learn
    instruct 5/5  loss LOSS  0 s left  lr 7.32e-4  N tokens/s
    saved ROOT/run/instruct
    "
  `);
});

test('one stage starts from a checkpoint', async () => {
  const out = join(root, 'alone');
  const flags = [...launch, '--out', out, '--json', '--stage', 'instruct', '--from', join(root, 'run/align'), ...short];
  const { code, stdout } = await tinyllava('train', recipe, ...flags);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ stages: [{ name: 'instruct', steps: 5, folder: join(out, 'instruct') }], stopped: false });
});

test('a dry run describes the run', async () => {
  const { code, stdout } = await tinyllava('train', recipe, '--data', root, '--dry-run', '--set', `model.vision=${tower}`);
  expect(code).toBe(0);
  expect(stdout).toMatchInlineSnapshot(`
    "vision     clip           19,328  [3, 16, 16] to [16, 32]
    connector  pixel-shuffle   5,184  [16, 32] to [4, 32]
    language   llama          21,280  [T, 32] to [T, 20]
    all                       45,792

    align: 12 rows, 60 steps, 6 of them warm-up
      learns  vision 19,328, connector 5,184, language 21,280
      tokens  8.0 a row, 4.0 of them learned, at most 8 (of 12 rows; 0 are cut)
      images  1.00 a row
      memory  about 1.3 MB: weights 0.2 MB, gradients 0.2 MB, optimizer 0.4 MB, activations 0.6 MB

    instruct: 33 rows, 100 steps, 10 of them warm-up
      learns  connector 5,184, language 21,280
      tokens  9.8 a row, 2.5 of them learned, at most 11 (of 33 rows; 0 are cut)
      images  0.97 a row
      memory  about 0.8 MB: weights 0.2 MB, gradients 0.1 MB, optimizer 0.2 MB, activations 0.3 MB
    "
  `);
  const { stdout: json } = await tinyllava('train', recipe, '--data', root, '--dry-run', '--json', '--set', `model.vision=${tower}`);
  expect(JSON.parse(json)).toMatchObject({
    parameters: 45_792,
    stages: [
      { name: 'align', steps: 60 },
      { name: 'instruct', steps: 100 },
    ],
  });
});

test('what a dry run tells is broken at the width of the terminal', async () => {
  const flags = ['--data', root, '--dry-run', '--json', '--set', 'stages.0.maxLength=4096'];
  const { stdout } = await tinyllava('train', recipe, ...flags);
  const lines = describeDryRun(JSON.parse(stdout), { width: 60 }).split('\n');
  expect(lines.filter((line) => line.length > 60)).toEqual([]);
  expect(lines.join(' ').replace(/\s+/g, ' ')).toContain('maxLength is 4,096, but the language model was made for 64 tokens;');
});

test('the whole recipe is printed with what was set', async () => {
  const flags = ['--print-recipe', '--set', 'stages.1.optimizer.schedule=linear', '--stage', 'instruct'];
  const { stdout } = await tinyllava('train', recipe, ...flags);
  expect(stdout).toContain('      schedule: linear\n      finalRatio: 0\n');
  expect(stdout).not.toContain('name: align');
});

test.each([
  [[recipe, '--set', 'stages.0.batchsize=4'], 1],
  [[recipe, '--stage', 'instrct'], 2],
  [[recipe, '--data', 'nowhere', '--dry-run'], 1],
  [['recipes/none.yaml'], 2],
])('train %j fails with what is wrong and the fix', async (argv, expected) => {
  const { code, stdout, stderr } = await tinyllava('train', ...argv);
  expect([code, stdout]).toEqual([expected, '']);
  expect(stderr.replaceAll(process.cwd(), 'HERE')).toMatchSnapshot();
});

test('Ctrl-C ends the run behind its step, with a state to go on from', async () => {
  const out = join(root, 'interrupted');
  const { child, outcome } = start(['train', recipe, ...launch, '--out', out, '--set', 'stages.0.epochs=100000']);
  child.stderr?.once('data', () => child.kill('SIGINT'));
  const { code, stdout, stderr } = await outcome;
  expect([code, stdout]).toEqual([75, '']);
  expect(stderr).toContain('error: interrupted; go on with --resume');
  expect((await readdir(out)).sort()).toEqual(['environment.json', 'metrics.jsonl', 'recipe.yaml', 'state', 'tensorboard']);
});

test('a run can be watched while it trains', async () => {
  const out = join(root, 'watched');
  const { child, outcome } = start(['train', recipe, ...launch, '--out', out, '--set', 'stages.0.epochs=100000', '--watch', '0']);
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const until = async (found: () => Promise<boolean>) => {
    while (!(await found())) await new Promise((resolve) => setTimeout(resolve, 50));
  };
  const url = () => /watch it on (http:\S+)/.exec(said)?.[1];
  await until(async () => url() !== undefined);
  await until(async () => (await (await fetch(url() ?? '')).text()).includes('Answers on the way'));
  const live = fetch(`${url()}live`).then((page) => page.text());
  await until(async () => (await stat(join(out, 'metrics.jsonl'))).size > 1000);
  child.kill('SIGINT');
  expect((await outcome).code).toBe(75);
  expect(await live).toContain('Interrupted; it goes on with --resume.');
}, 30_000);

test('the line of a checkpoint counts what was left out', () => {
  const said = (skippedRows: number, cutRows: number): string => {
    const written: string[] = [];
    const log = trainingProgress(new StatusLine({ write: (text: string) => written.push(text) }));
    log({ event: 'checkpoint', stage: 'align', folder: 'runs/a/align', skippedRows, skippedSteps: 0, cutRows });
    return written.join('').trim();
  };
  expect(said(0, 0)).toBe('saved runs/a/align');
  expect(said(2, 0)).toBe('saved runs/a/align; skipped on the way: 2 rows, 0 steps');
  expect(said(0, 3)).toBe('saved runs/a/align; cut to maxLength: 3 rows');
});

test('of many rows that are skipped only the first are named', () => {
  const written: string[] = [];
  const log = trainingProgress(new StatusLine({ write: (text: string) => written.push(text) }));
  for (let i = 0; i < 1000; i++) log({ event: 'skipped-row', stage: 'align', step: 1, reason: `a.json#${i % 500} is broken` });
  expect(written.length).toBe(11);
  expect(written.slice(8)).toEqual([
    'skipped: a.json#8 is broken\n',
    'skipped: a.json#9 is broken\n',
    'what else is skipped is named in metrics.jsonl\n',
  ]);
});

test('progress is one line that fits the terminal', () => {
  const written: string[] = [];
  const screen = { isTTY: true, columns: 60, write: (text: string) => written.push(text) };
  const log = trainingProgress(new StatusLine(screen, () => 1000));
  log({
    event: 'step',
    stage: 'align',
    step: 7,
    steps: 4361,
    loss: 2.34567,
    learningRate: 9.98e-4,
    secondsLeft: 4210,
    tokensPerSecond: 3456.7,
  });
  expect(written.join('')).toBe('\r\u001b[2Kalign 7/4361  loss 2.346  1 h 10 min left  lr 9.98e-4');
});
