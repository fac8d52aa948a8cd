import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inspectData } from '../../src/data/inspect.ts';
import { spreadOf } from '../../src/data/statistics.ts';
import type { LogEvent } from '../../src/log.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { Processor } from '../../src/processor/processor.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
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
        "missing image": 1,
        "nothing learned": 1,
        "row": 1,
        "too long": 3,
        "unreadable image": 1,
      },
      "rows": 8,
      "tokens": {
        "cut": 3,
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
      "usable": 6,
    }
  `);
  expect(problems.map(({ kind, name, message, hint }) => `${kind}: ${name}: ${message} (${hint})`)).toMatchInlineSnapshot(`
    [
      "too long: data.json#0: 16 tokens are cut to 12 (raise maxLength, or split the conversation)",
      "too long: data.json#2: 13 tokens are cut to 12 (raise maxLength, or split the conversation)",
      "row: data.json#5: 1 <image> tag but 0 images (add the missing image, or remove a tag)",
      "too long: data.json#7: 14 tokens are cut to 12 (raise maxLength, or split the conversation)",
      "nothing learned: data.json#7: none of 12 tokens is learned (raise maxLength, or remove the row)",
      "missing image: gone.png: does not exist, first used by data.json#3 (check the image folder)",
      "unreadable image: cut.png: cannot be decoded as an image: Input buffer has corrupt header, first used by data.json#4 (fetch it again if it is cut off, convert it to PNG or JPEG if its format is unknown, or leave it out)",
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
    usable: 7,
    problemCounts: { row: 1, 'missing image': 1, 'unreadable image': 1 },
  });
});

test('a part of a large file can be looked at', async () => {
  const report = await inspectData(file, { rows: 3, decode: 0, problems: 0 });
  expect([report.rows, report.inspected, report.images.decoded, report.problems]).toEqual([8, 3, 0, []]);
});

test('progress is reported', async () => {
  const many = await folderWith({
    'many.jsonl': Array.from({ length: 20_001 }, () => JSON.stringify(row(undefined, 'a', 'b'))).join('\n'),
  });
  const events: LogEvent[] = [];
  await inspectData(join(many, 'many.jsonl'), { log: (event) => void events.push(event) });
  expect(events).toEqual([
    { event: 'inspected', rows: 10_000, of: 20_001 },
    { event: 'inspected', rows: 20_000, of: 20_001 },
  ]);
});

test('a spread says how numbers lie', () => {
  expect(spreadOf([])).toBeUndefined();
  expect(spreadOf([7])).toEqual({ count: 1, total: 7, min: 7, mean: 7, median: 7, p95: 7, max: 7 });
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
