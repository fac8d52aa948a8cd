import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { promptText } from '../../src/evaluate/answer-samples.ts';
import { evaluate, type Results, withoutTimes } from '../../src/evaluate/evaluate.ts';
import { markdown } from '../../src/evaluate/report.ts';
import type { Respondent } from '../../src/evaluate/respondent/respondent.ts';
import { readSamples } from '../../src/evaluate/samples-file.ts';
import type { Task } from '../../src/evaluate/task.ts';
import { tasks } from '../../src/evaluate/tasks/index.ts';
import { ChatModel } from '../../src/generate/generate.ts';
import type { LogEvent } from '../../src/log.ts';
import { templates } from '../../src/processor/templates.ts';
import { libtorch } from '../../src/tensor/device.ts';
import { onOneThread, picture, tinyModel } from '../generate/tiny-model.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-evaluate-'));
afterAll(() => rmSync(root, { recursive: true }));

const { model, processor } = tinyModel();
const chat = new ChatModel(model, processor);

/** Easy-VQA's layout with a handful of questions; picture 2 is cut off in the middle. */
const data = join(root, 'data');
for (const split of ['train', 'test']) mkdirSync(join(data, split, 'images'), { recursive: true });
for (const i of [0, 1, 2]) {
  const bytes = await picture(i);
  writeFileSync(join(data, `test/images/${i}.png`), i === 2 ? bytes.subarray(0, bytes.length / 2) : bytes);
}
const questions = [
  'what is this?',
  'is this a circle?',
  'what is the colour of this?',
  'is this red?',
  'is this blue?',
  'what is this shape?',
];
const truths = ['circle', 'yes', 'red', 'no', 'yes', 'square'];
const rows = [0, 1, 2].flatMap((image) => questions.map((question, i) => [question, truths[i], image]));
writeFileSync(join(data, 'test/questions.json'), JSON.stringify(rows));
writeFileSync(join(data, 'train/questions.json'), JSON.stringify(rows.slice(0, 6)));

const plain = (results: Results) => ({
  ...results,
  tasks: Object.fromEntries(Object.entries(results.tasks).map(([name, result]) => [name, { ...result, seconds: 0 }])),
});

describe('an evaluation', () => {
  test('gives the same samples and results for every batch size', async () => {
    const run = async (batchSize: number) => {
      const out = join(root, `out-${batchSize}`);
      const results = await evaluate(chat, { tasks: ['easy-vqa'], data, out, batchSize });
      expect(JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'))).toEqual(withoutTimes(results));
      expect(readdirSync(out).sort()).toEqual(['results.json', 'run.json', 'samples_easy-vqa.jsonl', 'timings.json']);
      return { results: plain(results).tasks, samples: readFileSync(join(out, 'samples_easy-vqa.jsonl'), 'utf8') };
    };
    const one = await run(1);
    expect(one.samples.trimEnd().split('\n')).toHaveLength(18);
    expect(await run(5)).toEqual(one);
    expect(await run(32)).toEqual(one);
  });

  test('counts an unreadable image as a failure of its questions alone', async () => {
    const out = join(root, 'failures');
    const { tasks } = await evaluate(chat, { tasks: ['easy-vqa'], data, out, batchSize: 4 });
    expect(tasks['easy-vqa']).toMatchObject({
      samples: 18,
      failures: 6,
      firstFailure: expect.stringMatching(/^test\/images\/2\.png cannot/),
    });
    const samples = await readSamples(join(out, 'samples_easy-vqa.jsonl'));
    const failed = samples.filter(({ error }) => error !== undefined);
    expect(failed.map(({ sample }) => sample.id)).toEqual(['12', '13', '14', '15', '16', '17']);
    expect(failed.every(({ score, answer }) => score === 0 && answer === undefined)).toBe(true);
    expect(failed[0]?.error).toMatch(/^test\/images\/2\.png cannot be decoded/);
    writeFileSync(join(root, 'a-file'), '');
    await expect(evaluate(chat, { tasks: ['easy-vqa'], data, out: join(root, 'a-file') })).rejects.toThrow(
      /a-file cannot be written to: EEXIST/,
    );
  });

  test('scores right answers, beside what answers without the image would score', async () => {
    const answer = await chat.generate({
      messages: [{ role: 'user', content: 'is this red?' }],
      images: [join(data, 'test/images/1.png')],
      maxNewTokens: 8,
    });
    const right = join(root, 'right');
    for (const split of ['train', 'test']) mkdirSync(join(right, split, 'images'), { recursive: true });
    writeFileSync(join(right, 'test/images/0.png'), readFileSync(join(data, 'test/images/1.png')));
    writeFileSync(
      join(right, 'test/questions.json'),
      JSON.stringify([
        ['is this red?', answer.text, 0],
        ['is this red?', 'circle', 0],
      ]),
    );
    writeFileSync(join(right, 'train/questions.json'), JSON.stringify([['is this red?', 'circle', 0]]));
    const { tasks } = await evaluate(chat, { tasks: ['easy-vqa'], data: right });
    expect(tasks['easy-vqa']?.metrics.map(({ name, value, count }) => [name, value, count])).toEqual([
      ['all', 0.5, 2],
      ['colour', 1, 1],
      ['shape', 0, 1],
    ]);
    expect(tasks['easy-vqa']?.baselines['question only']?.[0]).toMatchObject({ name: 'all', value: 0.5 });
  });

  test('asks the first samples only when limited, and tells what happens', async () => {
    const events: LogEvent[] = [];
    const { tasks, settings } = await evaluate(chat, { tasks: ['easy-vqa'], data, limit: 5, log: (event) => events.push(event) });
    expect(tasks['easy-vqa']?.samples).toBe(5);
    expect(settings).toMatchObject({ limit: 5, batchSize: 8, dtype: 'float32', device: 'cpu', libtorch: libtorch().version });
    expect(events.map(({ event }) => event)).toEqual(['evaluating', ...Array(5).fill('answered'), 'evaluated']);
    expect(events[5]).toMatchObject({ task: 'easy-vqa', done: 5, samples: 5 });
  });

  test('asks the questions about one image behind each other, wherever they stand', async () => {
    const spread = join(root, 'spread');
    mkdirSync(join(spread, 'test'), { recursive: true });
    symlinkSync(join(data, 'test/images'), join(spread, 'test/images'));
    const images = [0, 1, 0, 1, 0];
    writeFileSync(join(spread, 'test/questions.json'), JSON.stringify(images.map((image, i) => [`is this ${i}?`, 'yes', image])));
    const asked: string[] = [];
    const respondent: Respondent = {
      identity: {},
      async *responses(questions) {
        let index = 0;
        for await (const { messages } of questions) {
          asked.push(promptText(messages));
          yield { index, answer: String(index) };
          index += 1;
        }
      },
    };
    const out = join(root, 'spread-out');
    await evaluate(respondent, { tasks: ['easy-vqa'], data: spread, out });
    expect(asked.map((text) => Number(/\d/.exec(text)?.[0]))).toEqual([0, 2, 4, 1, 3]);
    expect((await readSamples(join(out, 'samples_easy-vqa.jsonl'))).map(({ answer }) => answer)).toEqual(['0', '3', '1', '4', '2']);
  });

  test('names images below the data folder, so that a run and its data can be moved', async () => {
    const [tree, moved] = [join(root, 'tree'), join(root, 'moved')];
    cpSync(join(data, 'test'), join(tree, 'data/test'), { recursive: true });
    const out = join(tree, 'run');
    await evaluate(chat, { tasks: ['easy-vqa'], data: join(tree, 'data'), out, limit: 1 });
    const line = JSON.parse(readFileSync(join(out, 'samples_easy-vqa.jsonl'), 'utf8'));
    expect(line.doc.images).toEqual(['test/images/0.png']);
    const images = async (folder: string, now?: string) =>
      (await readSamples(join(folder, 'samples_easy-vqa.jsonl'), { data: now })).flatMap(({ sample }) => sample.images);
    expect(await images(out)).toEqual([join(tree, 'data/test/images/0.png')]);
    renameSync(tree, moved);
    expect(await images(join(moved, 'run'), join(moved, 'data'))).toEqual([join(moved, 'data/test/images/0.png')]);
  });

  test('keeps what was answered when it is interrupted', async () => {
    const out = join(root, 'interrupted');
    await evaluate(chat, { tasks: ['easy-vqa'], data, out, limit: 1 });
    const abort = new AbortController();
    const log = ({ event, done }: LogEvent): void => {
      if (event === 'answered' && done === 3) abort.abort(new Error('interrupted'));
    };
    await expect(evaluate(chat, { tasks: ['easy-vqa'], data, out, batchSize: 2, log, signal: abort.signal })).rejects.toThrow(
      'interrupted',
    );
    expect(await readSamples(join(out, 'samples_easy-vqa.jsonl'))).toHaveLength(3);
    expect(readdirSync(out).sort()).toEqual(['run.json', 'samples_easy-vqa.jsonl']);
  });

  test('leaves nothing of an earlier run in its folder', async () => {
    const out = join(root, 'reused');
    const respondent: Respondent = {
      identity: {},
      async *responses(questions) {
        let index = 0;
        for await (const _ of questions) yield { index: index++, answer: 'yes' };
      },
    };
    const uploaded: Task = { ...tasks['easy-vqa'], name: 'uploaded', submission: (scored) => scored.map(({ answer }) => answer) };
    const tabled: Task = { ...uploaded, name: 'tabled', submission: () => [{ index: 1, prediction: 'yes' }], submissionForm: 'xlsx' };
    const counted: Task = { ...tabled, submission: () => ({ rows: 1 }) };
    await expect(evaluate(respondent, { tasks: [counted], data, out })).rejects.toThrow('in the form xlsx is a list of rows');
    rmSync(out, { recursive: true });
    await evaluate(respondent, { tasks: [uploaded, tabled, 'easy-vqa'], data, out });
    expect(readdirSync(out)).toEqual(expect.arrayContaining(['submission_uploaded.json', 'submission_tabled.xlsx']));
    await evaluate(respondent, { tasks: ['easy-vqa'], data, out });
    expect(readdirSync(out).sort()).toEqual(['results.json', 'run.json', 'samples_easy-vqa.jsonl', 'timings.json']);
  });

  test('refuses unknown tasks, no tasks, and a folder without the files, before it asks anything', async () => {
    const events: LogEvent[] = [];
    const log = (event: LogEvent): void => void events.push(event);
    await expect(evaluate(chat, { tasks: ['easy-vqa', 'easyvqa'], data, log })).rejects.toMatchObject({
      message: 'unknown task "easyvqa"',
      hint: expect.stringContaining('did you mean "easy-vqa"?'),
    });
    await expect(evaluate(chat, { tasks: [], data, log })).rejects.toThrow('no tasks');
    await expect(evaluate(chat, { tasks: ['easy-vqa', 'vqa'], data, log })).rejects.toThrow('neither questions.jsonl nor questions.json');
    expect(events).toEqual([]);
  });
});

test('results become a Markdown table with intervals and baselines', () => {
  const metric = (name: string, right: number, count: number) => ({
    name,
    value: right / count,
    interval: { low: 0.5, high: 0.625 },
    count,
  });
  const results: Results = {
    version: '0.1.0',
    node: '20.20.2',
    settings: { batchSize: 8, limit: 8, profile: 'official', dtype: 'float32', template: templates.phi.source },
    tasks: {
      'easy-vqa': {
        metrics: [metric('all', 5, 8), metric('shape', 2, 4)],
        baselines: { majority: [metric('all', 1, 8), metric('shape', 1, 4)] },
        samples: 8,
        failures: 1,
        firstFailure: 'a.png does not exist',
        seconds: 0.5,
        maxNewTokens: 8,
        dataSha256: '',
      },
    },
  };
  expect(markdown(results)).toMatchInlineSnapshot(`
    "## easy-vqa

    | questions | count | score | 95 % interval | majority |
    | --------- | ----: | ----: | ------------: | -------: |
    | all       |     8 |  62.5 |   50.0 - 62.5 |     12.5 |
    | shape     |     4 |  50.0 |   50.0 - 62.5 |     25.0 |

    8 questions in 0.5 s (16.0 a second). 1 failed and counts as wrong, the first because a.png does not exist.

    ## The run

    - batchSize: 8
    - limit: the first 8 questions of each task
    - profile: official
    - dtype: float32
    - template: phi or qwen2_base
    - tinyllava: 0.1.0
    - Node: 20.20.2
    "
  `);
  // As a version wrote it that did not say Node's.
  const { node: _, ...earlier } = results;
  expect(markdown(earlier as Results)).toMatch(/- tinyllava: 0\.1\.0\n$/);
});
