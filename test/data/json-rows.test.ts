import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { JsonRows } from '../../src/data/json-rows.ts';
import type { DataError } from '../../src/errors.ts';
import { folderWith } from './files.ts';

const rows = [{ a: 1 }, { text: 'braces } ] and "quotes\\" and \\', deep: [[{ b: '{' }]] }, { unicode: 'é 東京 🎉\u2028' }, {}];

async function read(content: string): Promise<unknown> {
  const folder = await folderWith({ 'a.json': content });
  try {
    using file = await JsonRows.open(join(folder, 'a.json'));
    return Array.from({ length: file.length }, (_, i) => file.row(i));
  } catch (error) {
    return (error as Error).message.replaceAll(folder, '…');
  }
}

test.each([
  ['compact', JSON.stringify(rows)],
  ['indented', JSON.stringify(rows, null, 4)],
  ['with Windows line ends', JSON.stringify(rows, null, 1).replaceAll('\n', '\r\n')],
  ['with a byte order mark', `\uFEFF${JSON.stringify(rows)}`],
  ['one object a line', rows.map((row) => JSON.stringify(row)).join('\n')],
  ['one object a line, with empty lines', `\n${rows.map((row) => JSON.stringify(row)).join('\n\n')}\n\n`],
])('every row of a file that is %s is read', async (_, content) => expect(await read(content)).toEqual(rows));

test('rows longer than what is read at a time are whole', async () => {
  const long = Array.from({ length: 5 }, (_, i) => ({ i, text: `${'x'.repeat(700_000)}é"\\${i}` }));
  expect(await read(JSON.stringify(long))).toEqual(long);
});

const strange = [null, 1.5, 'a, "b" ]', [{ a: ',' }], true, {}, -2];
test.each([
  ['compact', JSON.stringify(strange)],
  ['indented', JSON.stringify(strange, null, 4)],
  ['one a line behind an object', ['{}', ...strange.map((row) => JSON.stringify(row))].join('\n')],
])('rows that are no objects are rows too, in a file that is %s', async (_, content) =>
  expect(await read(content)).toEqual(content.startsWith('{') ? [{}, ...strange] : strange),
);

test('a line that is no JSON is a row of its own', async () => {
  const folder = await folderWith({ 'a.jsonl': '{"a": 1}\nsaved, 2 of 3 {\n\n{"b": 2}\nlast' });
  using file = await JsonRows.open(join(folder, 'a.jsonl'));
  expect(file.length).toBe(4);
  expect(file.row(2)).toEqual({ b: 2 });
  expect(() => file.row(1)).toThrow('a.jsonl#1 is not valid JSON');
  expect(() => file.row(3)).toThrow('a.jsonl#3 is not valid JSON');
});

test('an empty array has no rows', async () => expect(await read(' [ ] ')).toEqual([]));

test.each([
  ['an empty file', '', '…/a.json, byte 0: the file is empty'],
  ['a file cut off in a row', '[{"a": 1}, {"b": [1, 2', '…/a.json ends in the middle of row 1'],
  ['a file cut off in a text', '[{"a": "x', '…/a.json ends in the middle of row 0'],
  ['an array that is not closed', '[{"a": 1},\n', '…/a.json ends in the middle of row 1'],
  ['rows without a comma', '[{"a": 1} {"b": 1}]', '…/a.json, byte 10: a comma should follow row 0, found "{"'],
  ['two objects on a line', '{"a": 1} {"b": 1}', '…/a.json, byte 9: a line break should follow row 0, found "{"'],
  ['an array cut off in a number', '[{"a": 1}, 2', '…/a.json ends in the middle of row 1'],
  ['numbers without a comma', '[1 2]', '…/a.json, byte 3: a comma should follow row 0, found "2"'],
  ['an array that begins with a comma', '[, {}]', '…/a.json, byte 1: row 0 should begin with "{", found ","'],
  ['a web page', '<html></html>', '…/a.json, byte 0: row 0 should begin with "{", found "<"'],
  ['something after the array', '[{"a": 1}] []', '…/a.json, byte 11: something follows the array'],
  ['a row that is not JSON', '[{"a": 1}, {b: 2}]', /^…\/a\.json#1 is not valid JSON: /],
])('%s is refused with its place', async (_, content, message) =>
  expect(await read(content)).toEqual(typeof message === 'string' ? message : expect.stringMatching(message)),
);

test('a file in another encoding than UTF-8, packed, or a pointer of Git LFS is told as such', async () => {
  const folder = await folderWith({});
  const hint = async (content: Buffer): Promise<string | undefined> => {
    const file = join(folder, 'b.json');
    await writeFile(file, content);
    return JsonRows.open(file).then(
      () => undefined,
      (error: DataError) => error.hint,
    );
  };
  const text = JSON.stringify(rows);
  expect(await hint(Buffer.from(`\uFEFF${text}`, 'utf16le'))).toBe('the file is in UTF-16: save it again as UTF-8');
  expect(await hint(gzipSync(text))).toBe('a file that gzip has packed has to be unpacked');
  expect(await hint(Buffer.from('version https://git-lfs.github.com/spec/v1\n'))).toContain('`git lfs pull`');
  await writeFile(join(folder, 'c.json'), Buffer.from('[{"a": "x"}, {"a": "größe"}]', 'latin1'));
  using latin = await JsonRows.open(join(folder, 'c.json'));
  expect(latin.row(0)).toEqual({ a: 'x' });
  expect(() => latin.row(1)).toThrow('c.json#1 is not in UTF-8');
});

test('a row that is not there is refused', async () => {
  const folder = await folderWith({ 'a.json': rows });
  using file = await JsonRows.open(join(folder, 'a.json'));
  expect(() => file.row(4)).toThrow('a.json has 4 rows, there is no row 4');
  expect(() => file.row(-1)).toThrow('there is no row -1');
  file.close();
  expect(() => file.row(0)).toThrow('a.json was closed');
});

test('a missing file and a folder are named', async () => {
  await expect(JsonRows.open('/')).rejects.toThrow('/ cannot be read: EISDIR');
  await expect(JsonRows.open('/nowhere/a.json')).rejects.toThrow('/nowhere/a.json does not exist');
});
