import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeDemoData } from '../../../src/cli/demo/data.ts';
import { brief, demo } from '../../../src/cli/demo/demo.ts';
import { demoSummary } from '../../../src/cli/demo/demo-summary.ts';
import { readStamps } from '../../../src/cli/demo/stamps.ts';
import { writeStart } from '../../../src/cli/demo/start.ts';
import type { LogEvent } from '../../../src/log.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint.ts';
import { Tokenizer } from '../../../src/processor/tokenizer.ts';
import { indices } from '../../../src/tensor/create.ts';
import { setThreads, threads } from '../../../src/tensor/device.ts';
import { openSafetensors } from '../../../src/tensor/safetensors.ts';
import { tinySources } from './tiny-sources.ts';
import '../../matchers.ts';

const usual = threads();
let tiny: Awaited<ReturnType<typeof tinySources>>;
beforeAll(async () => {
  setThreads(1);
  tiny = await tinySources();
});
afterAll(async () => {
  setThreads(usual);
  await rm(tiny.root, { recursive: true });
  await rm(tiny.sources.easyVqa, { recursive: true });
});

const run = (out: string, log: (event: LogEvent) => void = () => {}, signal = new AbortController().signal) =>
  demo({ out, sources: tiny.sources, seed: 0, extent: brief, command: 'npm run demo -- --short', log, signal });

test('stamps that say what is seen are read, and letters and remarks are left out', async () => {
  const stamps = await readStamps(tiny.sources.stamps);
  expect(stamps).toHaveLength(40);
  expect(stamps.filter(({ file }) => file.endsWith('.svg'))).toHaveLength(20);
  expect(stamps[0]).toMatchObject({ name: 'things/ant-blue', caption: 'A blue ant.', concept: 'blue ant', noun: 'ant' });
  await expect(readStamps(join(tiny.root, 'nowhere'))).rejects.toThrow(/nowhere cannot be read: ENOENT/);
  await expect(readStamps(tiny.sources.easyVqa)).rejects.toThrow(/holds no stamps with captions/);
});

test('nothing that is held out, and nothing of its concept, is in the conversations', async () => {
  const folder = join(tiny.root, 'data');
  const { stamps, rows } = await writeDemoData(tiny.sources, folder, { seed: 0 });
  expect(stamps.train.length + stamps.validation.length + stamps.test.length).toBe(40);
  expect([stamps.test.length >= 8, stamps.validation.length >= 4, rows.captions]).toEqual([true, true, 4 * stamps.train.length]);
  const texts = await Promise.all(['captions', 'answers'].map((name) => readFile(join(folder, `${name}.json`), 'utf8')));
  for (const { name, caption } of [...stamps.test, ...stamps.validation]) {
    for (const text of texts) expect([text.includes(name), text.includes(caption)]).toEqual([false, false]);
  }
  const images = JSON.parse(texts[0] ?? '').map(({ image }: { image: string }) => image);
  const drawn = await readdir(join(folder, 'pictures/things'));
  expect(drawn).toHaveLength(images.length + stamps.test.length + stamps.validation.length);
});

test('the model starts with the classifier of its tower and the embeddings of the names', async () => {
  const folder = join(tiny.root, 'start');
  await writeStart(folder, tiny.sources);
  const { model } = await loadCheckpoint(folder);
  const parameters = new Map(model.namedParameters());
  const find = (key: string) => parameters.get(`model.multi_modal_projector.${key}`);
  const published = openSafetensors(tiny.sources.tower);
  expect(find('classifier.weight')).toMatchTensor(published.tensor('_fc.weight'), { atol: 0 });
  expect(find('classifier.bias')).toMatchTensor(published.tensor('_fc.bias'), { atol: 0 });
  const tokenizer = await Tokenizer.open(folder);
  const ids = tokenizer.encode(' dog', { after: 'text' }).slice(0, 3);
  const rows = model.languageModel.embed(indices(ids));
  for (const place of ids.keys()) expect(find('names')?.select(0, 1).select(0, place)).toMatchTensor(rows.select(0, place), { atol: 0 });
  for (let place = ids.length; place < 3; place++) expect(find('names')?.select(0, 1).select(0, place).norm().item()).toBe(0);
});

test('a short run trains, describes, scores, and leaves a page, a checkpoint and its numbers', async () => {
  const out = join(tiny.root, 'runs/first');
  const events: string[] = [];
  const result = await run(out, ({ event }) => events.push(event));
  const left = await readdir(out);
  expect(left).toEqual(
    expect.arrayContaining(['data', 'instruct', 'metrics.jsonl', 'quickstart.json', 'recipe.yaml', 'report.html', 'results.json']),
  );
  for (const name of ['start', 'start-tower', 'align']) expect(left).not.toContain(name);
  expect([...new Set(events)]).toEqual(
    expect.arrayContaining(['data', 'stage', 'step', 'checkpoint', 'curve', 'evaluating', 'answered', 'evaluated']),
  );
  const [all, ...parts] = result.captions;
  expect(parts.reduce((sum, { model }) => sum + model.count, 0)).toBe(all?.model.count);
  for (const { model, baselines } of result.captions) {
    for (const { noun, cider } of [model, ...Object.values(baselines)])
      expect([noun.value >= 0, noun.value <= 1, cider >= 0, cider <= 10]).toEqual([true, true, true, true]);
  }
  const page = await readFile(join(out, 'report.html'), 'utf8');
  expect(page).toContain('CIDEr-D');
  expect(page).toContain('npm run demo -- --short');
  expect(page).not.toMatch(/NaN|undefined|unknown/);
  const text = demoSummary(result, { columns: 80, command: 'npx tinyllava' });
  expect(text).toMatch(/right nouns, CIDEr-D +pictures +model +nearest caption +tower's class +without picture\nall +\d+ /);
  expect(text).toContain(`ask ${join(out, 'instruct')} --image`);
});

test('an interrupted run leaves nothing behind', async () => {
  const out = join(tiny.root, 'runs/interrupted');
  const controller = new AbortController();
  const stop = ({ event }: LogEvent): void => {
    if (event === 'step') controller.abort(new Error('interrupted'));
  };
  await expect(run(out, stop, controller.signal)).rejects.toThrow('interrupted');
  expect((await readdir(join(tiny.root, 'runs'))).filter((name) => name.startsWith('interrupted'))).toEqual([]);
});
