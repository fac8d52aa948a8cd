import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { samplesFile, watchApp } from '../../../src/cli/watch/app.ts';
import { GrowingLines } from '../../../src/cli/watch/json-lines.ts';
import type { TrainingSample } from '../../../src/cli/watch/page.ts';
import { SampleAnswers } from '../../../src/cli/watch/samples.ts';
import { watch } from '../../../src/cli/watch/watch.ts';
import { setThreads, threads } from '../../../src/tensor/device.ts';
import { readRecipe } from '../../../src/train/recipe-file.ts';
import { train } from '../../../src/train/trainer.ts';
import { tinyData } from '../../train/tiny-data.ts';

let root: string;
let out: string;
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  out = join(root, 'run');
  const whole = await readRecipe(join(import.meta.dirname, '../../../recipes/tiny.cpu.yaml'));
  const validation = { rows: 3, every: 4, keep: 'last', minImprovement: 0 } as const;
  const stages = whole.stages.map(({ epochs: _, ...stage }, i) => ({ ...stage, steps: 8, ...(i === 0 && { validation }) }));
  const recipe = { ...whole, stages };
  const samples = new SampleAnswers(recipe, { root, out });
  await train(recipe, { root, out, workers: 0, onStep: (event, trained) => samples.after(event, trained) });
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

test('a file that grows is read on, torn lines wait, and one that is cut back is believed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  const file = join(folder, 'lines.jsonl');
  const lines = new GrowingLines<{ i: number }>(file);
  expect(lines.read()).toEqual([]);
  writeFileSync(file, '{"i":1}\n{"i":2}\n{"i"');
  expect(lines.read()).toEqual([{ i: 1 }, { i: 2 }]);
  appendFileSync(file, ':3}\nnothing\n{"i":"ü"}\n');
  expect(lines.read()).toEqual([{ i: 1 }, { i: 2 }, { i: 3 }, { i: 'ü' }]);
  truncateSync(file, 8);
  appendFileSync(file, '{"i":9}\n');
  expect(lines.read()).toEqual([{ i: 1 }, { i: 9 }]);
});

test('the model is asked about its data at the first and the last step and between, and answers are kept', () => {
  const samples = new GrowingLines<TrainingSample>(join(out, samplesFile)).read();
  expect(new Set(samples.map(({ stage, step }) => `${stage} ${step}`))).toEqual(
    new Set(['align', 'instruct'].flatMap((stage) => Array.from({ length: 8 }, (_, i) => `${stage} ${i + 1}`))),
  );
  const red = samples.find(({ truth }) => truth === 'a red square'); // whichever answer is done first is kept first
  expect(red).toMatchObject({ stage: 'align', step: 1, question: '<image>', truth: 'a red square' });
});

test('the page shows curves, figures and answers, and what the model says is no markup', async () => {
  appendFileSync(join(out, samplesFile), `${JSON.stringify({ stage: 'x', step: 1, question: '<b>', answer: '<script>', truth: '' })}\n`);
  const app = watchApp(out);
  const page = await (await app.request('/')).text();
  expect(page).toContain('<h1>run</h1>');
  for (const caption of ['loss, smoothed', 'validation loss', 'learning rate', 'tokens a second', 'memory'])
    expect(page).toContain(caption);
  expect(page).toContain('<dd>8</dd>');
  expect(page).toContain('&lt;script&gt;');
  expect(page.match(/<script>/g)?.length).toBe(1);
  const live = await app.request('/live');
  expect(live.headers.get('content-type')).toMatch(/^text\/html/);
  expect(page).toContain(await live.text());
  expect((await app.request('/else')).status).toBe(404);
});

test('a run without steps has a page too', async () => {
  const app = watchApp(join(root, 'none'));
  expect(await (await app.request('/')).text()).toContain('The first step is on its way.');
});

test('the page is served from a thread of its own, and a port that is taken is told', async () => {
  const served = await watch(out, 0);
  const page = await (await fetch(served.url)).text();
  expect(page).toContain('<h1>run</h1>');
  await served[Symbol.asyncDispose]();
  await expect(fetch(served.url)).rejects.toThrow();
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address() as AddressInfo;
  await expect(watch(out, port)).rejects.toThrow(/the page cannot be served: .*EADDRINUSE/);
  other.close();
});
