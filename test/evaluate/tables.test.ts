import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { readAnswers } from '../../src/evaluate/answers-file.ts';
import { tableRows } from '../../src/evaluate/tables/rows.ts';
import { tsvRows } from '../../src/evaluate/tables/tsv.ts';
import { xlsxRows } from '../../src/evaluate/tables/xlsx.ts';
import { readJson } from '../../src/evaluate/tasks/vqa-files.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-tables-'));
const cache = process.env['TINYLLAVA_CACHE'];
beforeAll(() => {
  process.env['TINYLLAVA_CACHE'] = join(root, 'cache');
});
afterAll(() => {
  if (cache === undefined) delete process.env['TINYLLAVA_CACHE'];
  else process.env['TINYLLAVA_CACHE'] = cache;
  rmSync(root, { recursive: true });
});

function file(name: string, text: string): string {
  const path = join(root, name);
  writeFileSync(path, text);
  return path;
}

async function rowsOf(text: string): Promise<Record<string, string>[]> {
  const rows: Record<string, string>[] = [];
  for await (const row of tsvRows(file('a.tsv', text))) rows.push(row);
  return rows;
}

test('Excel files that pandas wrote have texts as texts, numbers as numbers are written, and no cell for what is missing', async () => {
  const path = join(import.meta.dirname, '../reference/vlmevalkit.xlsx');
  const question = 'Which "one"?\nSay ü.';
  const shared = { question, category: 'ocr' };
  expect(await xlsxRows(path)).toEqual([
    { ...shared, index: '241', A: 'one', B: 'two', answer: 'A', prediction: 'A' },
    { ...shared, index: '1000241', A: 'two', B: 'one', answer: 'B' },
    { ...shared, index: '252', A: '1', answer: 'A', prediction: '00123' },
  ]);
  expect((await readAnswers(path)).map(({ id, text }) => [id, text])).toEqual([
    ['241', 'A'],
    ['1000241', ''],
    ['252', '00123'],
  ]);
  const columns = z.object({ index: z.string(), B: z.string().optional() });
  expect((await tableRows([path], columns)).map(({ B }) => B)).toEqual(['two', 'one', undefined]);
});

test('what is no Excel file, or has no answers in it, says so', async () => {
  await expect(xlsxRows(file('old.xlsx', 'not zipped'))).rejects.toThrow('old.xlsx: no Excel file (.xlsx)');
  await expect(xlsxRows(join(root, 'gone.xlsx'))).rejects.toThrow('gone.xlsx: cannot be read');
  await expect(readAnswers(file('questions.tsv', 'index\tquestion\tanswer\n1\tq\tA\n'))).rejects.toThrow(
    'questions.tsv: no answers in a column called prediction',
  );
});

test('a file in another encoding, an archive and commas are told from answers and questions, and a row that is none is named', async () => {
  const utf16 = join(root, 'utf16.jsonl');
  writeFileSync(utf16, '\ufeff{"question_id": 1, "text": "yes"}', 'utf16le');
  await expect(readAnswers(utf16)).rejects.toThrow('utf16.jsonl is not in UTF-8');
  await expect(readAnswers(file('answers.tar', 'a'))).rejects.toThrow('answers.tar: an archive, and not the file in it');
  await expect(tableRows([file('a.csv', 'question,answer')], z.looseObject({}))).rejects.toThrow('questions are not read from .csv');
  const rows = '[{"question_id": 1, "text": "yes"}, "no"]';
  await expect(readAnswers(file('rows.json', rows))).rejects.toThrow('rows.json#1: expected a map, got "no"');
  await expect(readAnswers(file('null.json', '[{"question_id": 1, "text": null}]'))).rejects.toThrow(
    'null.json#0: text: expected string or number, got nothing',
  );
});

describe('tables with tabs', () => {
  test('a byte order mark, as editors on Windows write it, is no part of a file', async () => {
    for (const [name, text] of [
      ['marked.jsonl', '{"question_id": 1, "text": "yes"}\r\n'],
      ['marked.json', '{"1": "yes"}'],
      ['marked.tsv', 'index\tprediction\r\n1\tyes\r\n'],
    ] as const) {
      const found = await readAnswers(file(name, `\ufeff${text}`));
      expect(found.map(({ id, text }) => [id, text])).toEqual([['1', 'yes']]);
    }
    expect(await readJson(file('truth.json', '\ufeff{"a": 1}'), z.record(z.string(), z.int()))).toEqual({ a: 1 });
  });

  test('answers by id may be texts or numbers, and nothing that says nothing', async () => {
    const found = await readAnswers(file('by-id.json', '{"a": "B", "b": 3.5, "c": {"text": "D"}}'));
    expect(found.map(({ id, text }) => [id, text])).toEqual([
      ['a', 'B'],
      ['b', '3.5'],
      ['c', 'D'],
    ]);
    for (const value of ['null', 'true', '["A"]'])
      await expect(readAnswers(file('by-id.json', `{"a": "B", "b": ${value}}`))).rejects.toThrow(`by-id.json: b: ${value} is no answer`);
  });

  test('have quotes around tabs, line breaks and quotes, and no cell for what is missing', async () => {
    const text = 'index\tquestion\tA\tB\n1\t"two\nlines\tand ""quotes"""\tnan\tNone\r\n2\tsay "hi"\tx\t\n';
    expect(await rowsOf(text)).toEqual([
      { index: '1', question: 'two\nlines\tand "quotes"' },
      { index: '2', question: 'say "hi"', A: 'x' },
    ]);
  });

  test('may end without a line break, in a quoted cell too', async () => {
    expect(await rowsOf('a\tb\n1\t2')).toEqual([{ a: '1', b: '2' }]);
    expect(await rowsOf('a\tb\n1\t"x y"')).toEqual([{ a: '1', b: 'x y' }]);
  });

  test('are read over the edges of the pieces that a file comes in', async () => {
    const long = `"${'z'.repeat((1 << 20) - 12)}""${'y'.repeat(100)}"`;
    const [row] = await rowsOf(`index\tb\tc\n1\t${long}\tend\n`);
    expect([row?.['b']?.length, row?.['b']?.includes('z"y'), row?.['c']]).toEqual([(1 << 20) - 12 + 1 + 100, true, 'end']);
  });

  test('say which row has too many cells, and that the end is missing', async () => {
    await expect(rowsOf('a\tb\n1\t2\t3\n')).rejects.toThrow('row 2 has 3 cells, but there are 2 columns');
    await expect(rowsOf('a\tb\n1\t"2')).rejects.toThrow('no closing quote');
  });

  test('give their images as files, one for rows that name each other or hold the same', async () => {
    const [red, blue] = await Promise.all(
      ['red', 'blue'].map(async (background) => {
        const bytes = await sharp({ create: { width: 2, height: 2, channels: 3, background } })
          .png()
          .toBuffer();
        return bytes.toString('base64');
      }),
    );
    const lines = ['index\tquestion\timage', `0\tq\t${red}`, '1000000\tq\t0', `2\tq\t"['${red}', '${red}', '${blue}']"`, `3\tq\t${blue}`];
    const path = file('images.tsv', `${lines.join('\n')}\n`);
    const rows = await tableRows([path], z.looseObject({ index: z.string(), image: z.array(z.string()) }));
    const [first = [], second, third, fourth = []] = rows.map(({ image }) => image);
    expect(second).toEqual(first);
    expect(third).toEqual([...first, ...first, ...fourth]);
    expect(fourth).not.toEqual(first);
    expect((await sharp(first[0]).metadata()).width).toBe(2);
  });
});

describe.each(['snappy', 'zstd'])('tables of Hugging Face, packed by %s', (compression) => {
  const path = join(import.meta.dirname, `../reference/images-${compression}.parquet`);
  const Row = z.looseObject({
    question_id: z.int(),
    question: z.string(),
    answers: z.array(z.string()),
    types: z.looseObject({ structural: z.string() }).optional(),
    image: z.string().optional(),
    images: z.array(z.string()).optional(),
  });

  test('have their images as files, row group by row group', async () => {
    const rows = await tableRows([path], Row);
    expect(rows.map(({ question_id, question, answers, types }) => [question_id, question, answers, types?.structural])).toEqual([
      [7, 'what?', ['a', 'b'], 'query'],
      [8, 'Ωhere?', [], undefined],
      [9, 'who?', ['c'], 'verify'],
    ]);
    const { dominant } = await sharp(rows[2]?.image).stats();
    expect(dominant.b).toBeGreaterThan(200);
    expect(rows.map(({ image, images }) => [image !== undefined && existsSync(image), images?.length])).toEqual([
      [true, 2],
      [false, 0],
      [true, undefined],
    ]);
  });

  test('name their images and write none when only answers are scored', async () => {
    const rows = await tableRows([path], Row);
    const written = rows.flatMap(({ image, images = [] }) => [image ?? [], images].flat());
    for (const one of written) rmSync(one, { force: true });
    expect(await tableRows([path], Row, { images: false })).toEqual(rows);
    expect([written.length, written.some(existsSync)]).toEqual([4, false]);
  });
});

describe('tables that cannot be used', () => {
  test('name the row and what is wrong with it', async () => {
    const path = file('bad.tsv', 'index\tquestion\n1\tq\n2\n');
    await expect(tableRows([path], z.looseObject({ question: z.string() }))).rejects.toThrow(
      `${path}#1: question: missing, expected string`,
    );
    const wide = z.object(Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [name, z.string()])));
    await expect(tableRows([path], wide)).rejects.toMatchObject({
      message: expect.stringMatching(/#0: a: missing.*; b: missing.*; c: missing.*; and 2 more$/),
      hint: expect.stringContaining('cut off'),
    });
  });

  test('are told from what is no Parquet', async () => {
    const path = file('pointer.parquet', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n');
    await expect(tableRows([path], z.looseObject({}))).rejects.toMatchObject({
      name: 'DataError',
      message: expect.stringContaining(`${path}: cannot be read as Parquet`),
      hint: expect.stringContaining('Git LFS'),
    });
    expect(readFileSync(path, 'utf8')).toContain('git-lfs');
  });
});
