import { appendFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answers, type TrainingSample } from '../../../src/cli/watch/answers.ts';
import { samplesFile, watchApp } from '../../../src/cli/watch/app.ts';
import { GrowingLines } from '../../../src/cli/watch/json-lines.ts';
import { SampleAnswers } from '../../../src/cli/watch/samples.ts';
import { watch } from '../../../src/cli/watch/watch.ts';
import type { LogEvent } from '../../../src/log.ts';
import { setThreads, threads } from '../../../src/tensor/device.ts';
import { readRecipe } from '../../../src/train/recipe-file.ts';
import { train } from '../../../src/train/trainer.ts';
import { chromium, Page } from '../../browser.ts';
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
  const seen = { row: 'tiny/captions.json#0', images: [expect.stringMatching(/^[0-9a-f]{16}\.webp$/)] };
  expect(red).toMatchObject({ stage: 'align', step: 1, question: '<image>', truth: 'a red square', ...seen });
});

test('answers that cannot be kept do not end the run', async () => {
  const blocked = join(root, 'blocked');
  mkdirSync(join(blocked, samplesFile), { recursive: true });
  const whole = await readRecipe(join(import.meta.dirname, '../../../recipes/tiny.cpu.yaml'));
  const recipe = { ...whole, stages: whole.stages.slice(0, 1).map(({ epochs: _, ...stage }) => ({ ...stage, steps: 2 })) };
  const samples = new SampleAnswers(recipe, { root, out: blocked });
  const { stages } = await train(recipe, { root, out: blocked, workers: 0, onStep: (event, trained) => samples.after(event, trained) });
  expect(stages.map(({ steps }) => steps.length)).toEqual([2]);
});

test('the page shows curves, figures and answers with their images, and what the model says is no markup', async () => {
  const strange = { stage: 'x', step: 1, row: 'x#0', question: '<b>', images: [], answer: '<script>', truth: '' };
  appendFileSync(join(out, samplesFile), `${JSON.stringify(strange)}\n`);
  const ending = Promise.resolve({ done: true, text: 'Over & done.' });
  const app = watchApp(out, { stages: ['align', 'instruct', 'later'], ending });
  const page = await (await app.request('/')).text();
  expect(page).toContain('<h1>run</h1>');
  for (const caption of ['loss, smoothed', 'validation loss', 'learning rate', 'tokens a second', 'memory'])
    expect(page).toContain(caption);
  expect(page).toContain('<dd>8</dd>');
  for (const stage of ['align <small>done', 'instruct <small>done', 'later <small>to come']) expect(page).toContain(stage);
  expect(page).toContain('&lt;script&gt;');
  expect(page.match(/<script>/g)?.length).toBe(1);
  const image = await app.request(/images\/\w+\.webp/.exec(page)?.[0] ?? '');
  expect(Buffer.from(await image.arrayBuffer()).toString('latin1', 8, 12)).toBe('WEBP');
  const live = await app.request('/live');
  expect(live.headers.get('content-type')).toMatch(/^text\/event-stream/);
  expect(await live.text()).toContain('Over &amp; done.');
  for (const path of ['/else', '/images/0.webp', '/images/..%2fmetrics.jsonl']) expect((await app.request(path)).status).toBe(404);
});

test('answers that stay the same are one, and those that a resumed run gives again are not shown again', () => {
  const says = (step: number, answer: string) => ({ stage: 's', step, row: 'r', question: '?', images: [], answer, truth: 't' });
  const text = answers([says(1, 'a'), says(2, 'a'), says(3, 'b'), says(2, 'a'), says(3, 'b'), says(4, 'b')])?.text ?? '';
  expect([...text.matchAll(/from step (\d)<\/small><span>(\w)/g)].map(([, step, answer]) => `${step} ${answer}`)).toEqual(['3 b', '1 a']);
});

test('a run without steps has a page too, and so has one whose numbers are not all known', async () => {
  const app = watchApp(join(root, 'none'));
  expect(await (await app.request('/')).text()).toContain('The first step is on its way.');
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  const step = new GrowingLines<LogEvent>(join(out, 'metrics.jsonl')).read().find(({ event }) => event === 'step');
  writeFileSync(join(folder, 'metrics.jsonl'), `${JSON.stringify({ ...step, memoryBytes: Number.NaN })}\n`);
  const page = await (await watchApp(folder).request('/')).text();
  expect(page).toContain('tokens a second');
  expect(page).not.toContain('memory of the process');
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

test.skipIf(chromium === undefined)('in a browser (skipped where there is none) the page follows the run to its end', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  await cp(out, folder, { recursive: true });
  const metrics = readFileSync(join(out, 'metrics.jsonl'), 'utf8').split('\n');
  writeFileSync(join(folder, 'metrics.jsonl'), `${metrics.slice(0, 4).join('\n')}\n`);
  await using served = await watch(folder, 0, ['align', 'instruct']);
  await using page = await Page.open(served.url, { width: 390, height: 800, dark: true });
  expect(await page.value(`document.querySelector('.progress').textContent`)).toContain('step 3 of 8');
  appendFileSync(join(folder, 'metrics.jsonl'), `${metrics.slice(4).join('\n')}`);
  await page.until(`document.querySelector('.progress').textContent.includes('instruct done')`);
  const [x = 0, y = 0] = await page.value<number[]>(`(() => {
    document.querySelector('.plot').scrollIntoView({ block: 'center' });
    const { left, right, top } = document.querySelector('.plot').getBoundingClientRect();
    return [right - 30, top + 60];
  })()`);
  await page.point(x, y);
  expect(await page.value(`document.getElementById('tip').textContent`)).toMatch(/^instruct, step \d, .*: loss \d/);
  await page.until(`[...document.images].every(({ naturalWidth }) => naturalWidth > 0)`);
  expect(await page.value('document.documentElement.scrollWidth')).toBe(390);
  await served.end({ done: false, text: 'error: no room <left>' });
  await page.until(`document.querySelector('#live .missed')?.textContent === 'error: no room <left>'`);
  await served[Symbol.asyncDispose]();
  expect(page.complaints).toEqual([]);
  expect(page.requests.filter((url) => !url.startsWith(served.url))).toEqual([]);
});

test.skipIf(chromium === undefined)('in a browser (skipped where there is none) the page says when its run is gone', async () => {
  const served = await watch(out, 0);
  await using page = await Page.open(served.url);
  expect(await page.value(`document.getElementById('lost').hidden`)).toBe(true);
  await served[Symbol.asyncDispose]();
  await page.until(`!document.getElementById('lost').hidden`);
});
