import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { published } from '../../src/evaluate/published.ts';
import type { Sample } from '../../src/evaluate/task.ts';
import { writeFiles } from './tasks/open-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-published-'));
afterAll(() => rmSync(root, { recursive: true }));

const sample = (id: string): Sample => ({ id, question: '', images: [], targets: [], category: '' });
const { open, wants } = published<Sample>(
  ['task', 'Task'],
  [
    {
      layout: 'first',
      files: ['questions.jsonl', 'sub/truth.json|truth.json', '?more.json', 'images/'],
      from: 'first.org',
      read: async (found) => [0, 1, 2, 3].map((i) => sample(found.one(i))),
    },
    { layout: 'second', files: ['*/part-*.parquet'], from: 'second.org', read: async (found) => found.all(0).map(sample) },
  ],
);
const ids = async (folder: string, images?: boolean): Promise<string[]> =>
  (await open(folder, { images })).samples.map(({ id }) => id.replace(folder, 'DIR'));
const complaint = async (folder: string): Promise<unknown> =>
  open(folder).catch((error: { message: string; hint: string }) =>
    [error.message, error.hint].map((text) => text.replaceAll(folder, 'DIR')),
  );

describe('published files', () => {
  test("are found in a folder of the task's name or in the data folder itself, by alternative names", async () => {
    const folder = writeFiles(join(root, 'a'), { 'Task/questions.jsonl': [], 'Task/truth.json': {}, 'Task/images/1.png': '' });
    expect(await ids(folder)).toEqual(['DIR/Task/questions.jsonl', 'DIR/Task/truth.json', '', 'DIR/Task/images']);
    expect((await ids(join(folder, 'Task'))).slice(0, 2)).toEqual(['DIR/questions.jsonl', 'DIR/truth.json']);
    const { files, layout } = await open(folder);
    expect([files.map((file) => file.replace(folder, 'DIR')), layout]).toEqual([
      ['DIR/Task/questions.jsonl', 'DIR/Task/truth.json'],
      'first',
    ]);
  });

  test('are whole without images where only answers are scored', async () => {
    const folder = writeFiles(join(root, 'b'), { 'questions.jsonl': [], 'sub/truth.json': {}, 'more.json': {} });
    expect(await ids(folder, false)).toEqual(
      ['DIR/questions.jsonl', 'DIR/sub/truth.json', 'DIR/more.json', 'DIR/task/images/'].map((path) => path.replace('task/', '')),
    );
    expect(await complaint(folder)).toEqual(["DIR: images/ is missing (first's layout)", 'get it from first.org']);
  });

  test('may lie in parts, in the order of their names', async () => {
    const folder = writeFiles(join(root, 'c'), {
      'Math/part-0.parquet': '',
      'Art/part-1.parquet': '',
      'Art/part-0.parquet': '',
      'Art/other.parquet': '',
    });
    expect(await ids(folder)).toEqual(['DIR/Art/part-0.parquet', 'DIR/Art/part-1.parquet', 'DIR/Math/part-0.parquet']);
  });

  test('are named with what is missing from the form that is nearest to being whole, or all of them', async () => {
    const folder = writeFiles(join(root, 'd'), { 'task/questions.jsonl': [], 'task/images/1.png': '' });
    expect(await complaint(folder)).toEqual([
      "DIR/task: sub/truth.json or truth.json is missing (first's layout)",
      'get it from first.org',
    ]);
    expect(await complaint(join(root, 'nowhere'))).toContain('DIR: no such folder');
    expect(await complaint(join(folder, 'task/questions.jsonl'))).toContain('DIR: a file, and not the folder that holds it');
    mkdirSync(join(root, 'none'));
    expect(await complaint(join(root, 'none'))).toEqual([
      "DIR: none of task's files, neither here nor in task/ or Task/",
      'put one of these there:\n    first: questions.jsonl, sub/truth.json or truth.json, images/, from first.org\n    second: */part-*.parquet, from second.org',
    ]);
    const many = published(
      ['task'],
      [{ layout: 'long', files: [...'abcdefgh'].map((name) => `${name}.json`), from: 'x.org', read: async () => [] }],
    );
    writeFileSync(join(root, 'none/b.json'), '');
    await expect(many.open(join(root, 'none'))).rejects.toThrow(/a\.json, c\.json, d\.json, e\.json, f\.json and 2 more are missing/);
    expect(wants.map(({ layout, files }) => [layout, files])).toEqual([
      ['first', ['questions.jsonl', 'sub/truth.json|truth.json', 'more.json (optional)', 'images/']],
      ['second', ['*/part-*.parquet']],
    ]);
  });
});
