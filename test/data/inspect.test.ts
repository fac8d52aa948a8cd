import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Dataset } from '../../src/data/dataset.ts';
import { inspectData } from '../../src/data/inspect.ts';
import { writeClean } from '../../src/data/inspection/clean.ts';
import { keyOf, Seen } from '../../src/data/inspection/seen.ts';
import type { OpenRows, Row } from '../../src/data/rows.ts';
import { Histogram } from '../../src/data/statistics.ts';
import { CheckpointError } from '../../src/errors.ts';
import type { LogEvent } from '../../src/log.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { Processor } from '../../src/processor/processor.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { tinyCheckpoint } from '../generate/tiny-model.ts';
import { colour, folderWith, row } from './files.ts';

const tokenizer = wordLevelTokenizer(splitWords('What color is it? red green blue a b c d e f'));
const processor = new Processor({
  tokenizer,
  image: new ImageProcessor({ size: { height: 4, width: 4 } }),
  template: 'tiny',
  imageTokens: 4,
});

const folder = await folderWith({
  'data.json': [
    row('red.png', '<image>\nWhat color is it?', 'red', 'a b?', 'c'),
    row(['red.png', 'green.png'], '<image> a <image>', ''),
    row(undefined, 'a b c d e f', 'a b c d e f'),
    row('gone.png', '<image>', 'a'),
    row('cut.png', '<image>', 'a'),
    row(undefined, 'What is <image>?', 'a'),
    {
      conversations: [
        { from: 'gpt', value: 'x' },
        { from: 'human', value: 'a' },
        { from: 'gpt', value: 'b' },
        { from: 'human', value: 'c' },
      ],
    },
    row(undefined, 'a b c d e f a b c d e f', 'a'),
  ],
  'red.png': await colour(255, 0, 0),
  'green.png': await colour(0, 255, 0),
  'cut.png': (await colour(0, 0, 255)).subarray(0, 40),
});
const file = join(folder, 'data.json');
const clean = <T>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll(`${folder}/`, ''));

test('a file is counted, and what is wrong with it is named', async () => {
  const { samples, problems, ...facts } = clean(await inspectData(file, { processor, maxLength: 12 }));
  expect(facts).toMatchInlineSnapshot(`
    {
      "answerCharacters": {
        "count": 8,
        "max": 11,
        "mean": 2.375,
        "median": 1,
        "min": 0,
        "p95": 11,
        "total": 19,
      },
      "answers": {
        "empty": 1,
        "skipped": 1,
        "unanswered": 1,
      },
      "clean": 1,
      "file": "data.json",
      "images": {
        "decoded": 3,
        "files": 4,
        "severalImageRows": 1,
        "textOnlyRows": 3,
        "used": 5,
      },
      "inspected": 8,
      "problemCounts": {
        "empty answer": 1,
        "image tags": 1,
        "missing image": 1,
        "nothing learned": 1,
        "too long": 3,
        "unreadable image": 1,
      },
      "rows": 8,
      "tokens": {
        "cut": 3,
        "lost": 5,
        "perRow": {
          "count": 7,
          "max": 16,
          "mean": 9.714285714285714,
          "median": 10,
          "min": 3,
          "p95": 16,
          "total": 68,
        },
        "supervisedPerRow": {
          "count": 7,
          "max": 6,
          "mean": 2.142857142857143,
          "median": 2,
          "min": 0,
          "p95": 6,
          "total": 15,
        },
      },
      "turns": {
        "gpt": 8,
        "human": 8,
        "system": 0,
      },
      "turnsPerRow": {
        "count": 7,
        "max": 4,
        "mean": 2.2857142857142856,
        "median": 2,
        "min": 2,
        "p95": 4,
        "total": 16,
      },
      "usable": 4,
    }
  `);
  expect(problems.map(({ kind, name, message, hint }) => `${kind}: ${name}: ${message} (${hint})`)).toMatchInlineSnapshot(`
    [
      "image tags: data.json#5: 1 <image> tag but 0 images (add the missing image, or remove a tag)",
      "missing image: gone.png: does not exist, first used by data.json#3 (check the image folder)",
      "unreadable image: cut.png: cannot be decoded as an image: Input buffer has corrupt header, first used by data.json#4 (fetch it again if it is cut off, convert it to PNG or JPEG if its format is unknown, or leave it out)",
      "nothing learned: data.json#7: none of 12 tokens is learned (raise maxLength, or remove the row)",
      "empty answer: data.json#1: turn 2 is empty (remove it with its question, or the row)",
      "too long: data.json#0: 16 tokens are more than 12, 2 of 4 learned ones are cut (raise maxLength, or split the conversation)",
      "too long: data.json#2: 13 tokens are more than 12, 1 of 7 learned ones are cut (raise maxLength, or split the conversation)",
      "too long: data.json#7: 14 tokens are more than 12, 2 of 2 learned ones are cut (raise maxLength, or split the conversation)",
    ]
  `);
  expect(samples).toHaveLength(2);
});

test('what is learned is shown', async () => {
  const { samples } = await inspectData(file, { processor, samples: 1 });
  const [sample] = samples;
  expect(sample?.spans.map(({ text, supervised, ids }) => [text, supervised, ids.length])).toEqual([
    ['<image> x 4', false, 4],
    ['What color is it?', false, 5],
    ['red </s>', true, 2],
    ['a b?', false, 3],
    ['c </s>', true, 2],
  ]);
});

test('without a processor the file and its images are looked at', async () => {
  const { tokens, samples, usable, problemCounts } = await inspectData(file);
  expect({ tokens, samples, usable, problemCounts }).toEqual({
    tokens: undefined,
    samples: [],
    usable: 5,
    problemCounts: { 'image tags': 1, 'missing image': 1, 'unreadable image': 1, 'empty answer': 1 },
  });
});

test('a part of a large file can be looked at', async () => {
  const report = await inspectData(file, { rows: 3, decode: 0, problems: 0 });
  expect([report.rows, report.inspected, report.images.decoded, report.problems]).toEqual([8, 3, 0, []]);
});

test('progress is reported, of rows and then of images', async () => {
  const events: LogEvent[] = [];
  await inspectData(file, { log: (event) => void events.push(event) });
  expect(events).toEqual([
    { event: 'inspected', rows: 8, of: 8 },
    { event: 'inspected', images: 4, of: 4 },
  ]);
});

const flawed = [
  row('red.png', '<image>\na', 'b'),
  { id: 7, ...row(undefined, 'a', 'b') },
  row('red.png', 'a\n<image>', 'b'),
  { id: '7', ...row(undefined, 'a', ' ') },
  { conversations: [{ from: 'user', value: 'a' }] },
  { conversations: 'a' },
  row('red.png', 'a', '<image> b'),
  row('cut.png', '<image>', 'c'),
  row('gone.png', '<image>', 'c'),
  row('cut.png', '<image> d', 'c'),
  row('slim.png', '<image> d', 'c'),
  row('https://example.org/a.png', '<image> e', 'c'),
];
const slim = await colour(0, 0, 255, { width: 20_000, height: 1 });

test('every kind of problem has a count and its first offenders', async () => {
  const folder = await folderWith({
    'data.json': flawed,
    'red.png': await colour(255, 0, 0),
    'cut.png': (await colour(0, 0, 255)).subarray(0, 40),
    'slim.png': slim,
  });
  const narrow = new Processor({
    tokenizer,
    image: new ImageProcessor({ size: { shortestEdge: 224 }, crop: { height: 224, width: 224 } }),
    template: 'tiny',
    imageTokens: 4,
  });
  const report = await inspectData(join(folder, 'data.json'), { processor: narrow });
  const { rows, usable, clean: kept, problems } = JSON.parse(JSON.stringify(report).replaceAll(`${folder}/`, '')) as typeof report;
  expect({ rows, usable, kept }).toEqual({ rows: 12, usable: 5, kept: 2 });
  expect(problems.map(({ kind, name, message }) => `${kind}: ${name}: ${message}`)).toMatchInlineSnapshot(`
    [
      "broken row: data.json#5: conversations: expected a list, got "a"",
      "roles: data.json#4: conversations[0].from: expected one of "human"|"gpt"|"system", got "user"",
      "missing image: gone.png: does not exist, first used by data.json#8",
      "missing image: https://example.org/a.png: is a web address, first used by data.json#11",
      "unreadable image: cut.png: cannot be decoded as an image: Input buffer has corrupt header, first used by data.json#7",
      "unreadable image: slim.png: is 20000 x 1 pixels, which would become 4480000 x 224, first used by data.json#10",
      "image in answer: data.json#6: turn 2 shows an image",
      "empty answer: data.json#3: turn 2 is empty",
      "duplicate row: data.json#2: is the same as data.json#0",
      "duplicate id: data.json#3: has the id "7" of data.json#1",
    ]
  `);
  const { problemCounts } = await inspectData(join(folder, 'data.json'), { ignore: ['missing image', 'roles'], problems: 0 });
  expect(problemCounts).toMatchInlineSnapshot(`
    {
      "broken row": 1,
      "duplicate id": 1,
      "duplicate row": 1,
      "empty answer": 1,
      "image in answer": 1,
      "unreadable image": 1,
    }
  `);
});

describe('a clean subset', async () => {
  const images = { 'red.png': await colour(255, 0, 0), 'cut.png': (await colour(0, 0, 255)).subarray(0, 40), 'slim.png': slim };
  const folder = await folderWith({
    ...images,
    'data.json': JSON.stringify(flawed, undefined, 1),
    'lines.jsonl': flawed.map((one) => JSON.stringify(one)).join('\n'),
  });
  const at = (name: string): string => join(folder, name);
  const text = (name: string): string => readFileSync(at(name), 'utf8');

  test('has the rows without problems, byte for byte, and says why others are not in it', async () => {
    const { fixed, clean: kept } = await inspectData(at('data.json'), { fix: at('clean.json') });
    expect(fixed).toEqual({
      file: at('clean.json'),
      rows: 3,
      droppedFile: at('clean.json.dropped.jsonl'),
      dropped: 9,
      imageFolder: folder,
    });
    expect(kept).toBe(3);
    for (const i of [0, 1, 10]) expect(text('clean.json')).toContain(JSON.stringify(flawed[i], undefined, 1).replaceAll('\n', '\n '));
    expect(JSON.parse(text('clean.json'))).toEqual([flawed[0], flawed[1], flawed[10]]);
    expect(text('clean.json.dropped.jsonl').replaceAll(`${folder}/`, '')).toMatchInlineSnapshot(`
      "{"row":2,"name":"data.json#2","kind":"duplicate row","reason":"is the same as data.json#0"}
      {"row":3,"name":"data.json#3","kind":"empty answer","reason":"turn 2 is empty"}
      {"row":4,"name":"data.json#4","kind":"roles","reason":"conversations[0].from: expected one of \\"human\\"|\\"gpt\\"|\\"system\\", got \\"user\\""}
      {"row":5,"name":"data.json#5","kind":"broken row","reason":"conversations: expected a list, got \\"a\\""}
      {"row":6,"name":"data.json#6","kind":"image in answer","reason":"turn 2 shows an image"}
      {"row":7,"name":"data.json#7","kind":"unreadable image","reason":"cut.png cannot be decoded as an image: Input buffer has corrupt header"}
      {"row":8,"name":"data.json#8","kind":"missing image","reason":"gone.png does not exist"}
      {"row":9,"name":"data.json#9","kind":"unreadable image","reason":"cut.png cannot be decoded as an image: Input buffer has corrupt header"}
      {"row":11,"name":"data.json#11","kind":"missing image","reason":"https://example.org/a.png is a web address"}
      "
    `);
    const again = await inspectData(at('clean.json'));
    expect({ rows: again.rows, clean: again.clean, counts: again.problemCounts }).toEqual({ rows: 3, clean: 3, counts: {} });
  });

  test('leaves out what is no conversation at all', async () => {
    const strange = ['a', null, [], flawed[0], 7, flawed[1]];
    writeFileSync(at('strange.json'), JSON.stringify(strange));
    writeFileSync(at('strange.jsonl'), `${JSON.stringify(flawed[0])}\nnull\nno json\n`);
    const [array, lines] = [
      await inspectData(at('strange.json'), { fix: at('strange-clean.json') }),
      await inspectData(at('strange.jsonl'), { fix: at('strange-clean.jsonl') }),
    ];
    expect([array.problemCounts, lines.problemCounts]).toEqual([{ 'broken row': 4 }, { 'broken row': 2 }]);
    expect(array.problems[1]).toMatchObject({ name: at('strange.json#1'), message: 'expected a map, got nothing' });
    expect(JSON.parse(text('strange-clean.json'))).toEqual([flawed[0], flawed[1]]);
    expect(JSON.parse(text('strange-clean.jsonl'))).toEqual(flawed[0]);
  });

  test('has one row a line where its name says so', async () => {
    await inspectData(at('data.json'), { fix: at('new/clean.jsonl') });
    await inspectData(at('lines.jsonl'), { fix: at('same') });
    expect(text('new/clean.jsonl')).toBe([0, 1, 10].map((i) => `${JSON.stringify(flawed[i])}\n`).join(''));
    expect(text('same')).toBe(text('new/clean.jsonl'));
  });

  test('is LLaVA rows beside images where the source has other forms', async () => {
    const pixels = await colour(1, 2, 3);
    const rows: Row[] = [
      {
        ...{ name: 'shard.tar#a', id: 'a', skippedAnswers: 0, droppedQuestions: 0 },
        messages: [
          {
            role: 'user',
            content: [
              { type: 'image', image: pixels },
              { type: 'text', text: 'What color?' },
            ],
          },
          { role: 'assistant', content: 'red' },
        ],
      },
      { name: 'shard.tar#b', id: undefined, messages: [], skippedAnswers: 0, droppedQuestions: 0 },
      {
        ...{ name: 'shard.tar#c', id: undefined, skippedAnswers: 0, droppedQuestions: 0 },
        messages: [
          { role: 'system', content: 'a' },
          {
            role: 'user',
            content: [
              { type: 'text', text: 'b ' },
              { type: 'image', image: at('red.png') },
              { type: 'image', image: pixels },
            ],
          },
          { role: 'assistant', content: 'c' },
        ],
      },
    ];
    const source: OpenRows = {
      file: 'shard.tar',
      length: rows.length,
      parts: [],
      row: async (index) => rows[index] as Row,
      nameOf: (index) => rows[index]?.name ?? '',
      sizes: () => Promise.reject(new Error('nobody asks')),
      close: () => {},
      [Symbol.dispose]: () => {},
    };
    const flaw = { kind: 'roles', message: 'no question is answered', hint: undefined } as const;
    const choices = () => rows.map((_, row) => ({ row, flaw: row === 1 ? flaw : undefined }));
    const fixed = await writeClean(source, at('other/rows.jsonl'), { choices, signal: undefined });
    expect(fixed).toMatchObject({ rows: 2, dropped: 1, imageFolder: at('other') });
    expect(text('other/rows.jsonl').replaceAll(folder, 'FOLDER')).toMatchInlineSnapshot(`
      "{"id":"a","image":"rows.images/0-0.png","conversations":[{"from":"human","value":"<image>\\nWhat color?"},{"from":"gpt","value":"red"}]}
      {"image":["FOLDER/red.png","rows.images/2-1.png"],"conversations":[{"from":"system","value":"a"},{"from":"human","value":"b <image><image>"},{"from":"gpt","value":"c"}]}
      "
    `);
    expect(readFileSync(at('other/rows.images/0-0.png'))).toEqual(Buffer.from(pixels));
    using dataset = await Dataset.open(at('other/rows.jsonl'));
    const image = at('other/rows.images/0-0.png');
    expect((await dataset.row(0)).messages[0]?.content).toEqual([
      { type: 'image', image },
      { type: 'text', text: 'What color?' },
    ]);
    const { clean: kept } = await inspectData(at('other/rows.jsonl'));
    expect(kept).toBe(2);
  });

  test('replaces no file, and is not there after a failure or an interruption', async () => {
    const before = text('data.json');
    await expect(inspectData(at('data.json'), { fix: at('data.json') })).rejects.toThrow(`${at('data.json')} exists`);
    expect(text('data.json')).toBe(before);
    writeFileSync(at('bad.json'), JSON.stringify([flawed[4]]));
    await expect(inspectData(at('bad.json'), { fix: at('none.json') })).rejects.toThrow(
      `${at('none.json')} is not written: no row of ${at('bad.json')} would be in it`,
    );
    await expect(inspectData(at('data.json'), { fix: at('red.png/none.json') })).rejects.toThrow(
      `${at('red.png/none.json')} cannot be written`,
    );
    const stopped = new AbortController();
    const log = ({ images }: LogEvent): void => void (images !== undefined && stopped.abort(new Error('enough')));
    await expect(inspectData(at('data.json'), { fix: at('none.json'), log, signal: stopped.signal })).rejects.toThrow('enough');
    expect(readdirSync(folder).filter((name) => /none|part$/.test(name))).toEqual([]);
  });
});

test('threads find what one finds', async () => {
  const { folder: model, remove } = await tinyCheckpoint();
  const many = await folderWith({
    'many.jsonl': Array.from({ length: 1200 }, (_, i) => JSON.stringify({ id: i % 1100, ...(flawed[i % 4] ?? {}) })).join('\n'),
    'red.png': await colour(255, 0, 0),
  });
  const look = (threads: number) => inspectData(join(many, 'many.jsonl'), { threads, model: { folder: model }, maxLength: 8 });
  const [here, there] = [await look(0), await look(2)];
  remove();
  expect(here.problemCounts).toMatchObject({ 'duplicate row': 1197, 'duplicate id': expect.any(Number), 'empty answer': 300 });
  expect(there).toEqual(here);
}, 60_000);

test('an error in a thread is the error', async () => {
  const look = inspectData(file, { threads: 2, model: { folder: join(folder, 'nowhere') } });
  await expect(look).rejects.toThrow(CheckpointError);
}, 60_000);

test('a key is known again among many', () => {
  const seen = new Seen();
  const first = Array.from({ length: 5000 }, (_, i) => seen.first(keyOf(`row ${i}`), i));
  expect(first.every((number) => number === undefined)).toBe(true);
  expect([0, 1234, 4999].map((i) => seen.first(keyOf(`row ${i}`), 9999))).toEqual([0, 1234, 4999]);
});

test('a spread says how numbers lie', () => {
  const spreadOf = (numbers: readonly number[]) => {
    const histogram = new Histogram();
    for (const number of numbers) histogram.add(number);
    return histogram.spread;
  };
  expect(spreadOf([])).toBeUndefined();
  expect(spreadOf([7])).toEqual({ count: 1, total: 7, min: 7, mean: 7, median: 7, p95: 7, max: 7 });
  expect(spreadOf([3, 1, 1, 1])).toMatchObject({ total: 6, median: 1, p95: 3 });
  expect(spreadOf(Array.from({ length: 100 }, (_, i) => 100 - i))).toEqual({
    count: 100,
    total: 5050,
    min: 1,
    mean: 50.5,
    median: 50,
    p95: 95,
    max: 100,
  });
});
