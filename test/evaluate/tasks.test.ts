import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { easyVqaFolder } from '../../src/cli/cache.ts';
import { majorityBaseline, questionOnlyBaseline, scoreBaseline } from '../../src/evaluate/baseline.ts';
import { exactMatch, meanByCategory } from '../../src/evaluate/score.ts';
import type { Sample, Scored } from '../../src/evaluate/task.ts';
import { aliases } from '../../src/evaluate/tasks/aliases.ts';
import { easyVqa } from '../../src/evaluate/tasks/easy-vqa.ts';
import { tasks } from '../../src/evaluate/tasks/index.ts';
import { vqa } from '../../src/evaluate/tasks/vqa.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-tasks-'));
afterAll(() => rmSync(root, { recursive: true }));

const sample = (fields: Partial<Sample> = {}): Sample => ({
  id: '0',
  question: 'q',
  images: [],
  targets: ['yes'],
  category: 'yes/no',
  ...fields,
});

function folder(name: string, text: string): string {
  const path = mkdtempSync(join(root, 'data-'));
  writeFileSync(join(path, name), text);
  return path;
}

describe('exact match', () => {
  test.each([
    ['yes', 1],
    [' Yes\n', 1],
    ['yes.', 0],
    ['yes no', 0],
    ['', 0],
  ])('scores %j against "yes" with %d', (answer, score) => {
    expect(exactMatch(sample(), answer).score).toBe(score);
  });

  test('takes any of the targets', () => {
    expect(exactMatch(sample({ targets: ['grey', 'Gray'] }), 'gray')).toEqual({ parsed: 'gray', score: 1 });
  });
});

describe('the mean by category', () => {
  const scored = (category: string, score: number): Scored => ({ sample: sample({ category }), parsed: '', score });

  test('has all samples first, then the categories by name', () => {
    const metrics = meanByCategory([scored('b', 1), scored('a', 0), scored('b', 0), scored('b', 1)]);
    expect(metrics.map(({ name, value, count }) => [name, value, count])).toEqual([
      ['all', 0.5, 4],
      ['a', 0, 1],
      ['b', 2 / 3, 3],
    ]);
  });

  test('does not repeat itself for a single category, and is 0 of nothing', () => {
    expect(meanByCategory([scored('a', 1)]).map(({ name }) => name)).toEqual(['all']);
    expect(meanByCategory([])).toEqual([{ name: 'all', value: 0, interval: { low: 0, high: 1 }, count: 0 }]);
  });
});

const published = easyVqaFolder(process.env);
const fetched = existsSync(published);

describe.skipIf(!fetched)(fetched ? 'easy-vqa as published' : 'easy-vqa as published, which scripts/fetch-data.mjs fetches', async () => {
  const { samples, train = [] } = fetched ? await easyVqa.open(published) : { samples: [] };
  const shares = (metrics: readonly { name: string; value: number }[]): Record<string, number> =>
    Object.fromEntries(metrics.map(({ name, value }) => [name, Number(value.toFixed(4))]));

  test('has the questions of both splits, by the kind of their answers', () => {
    expect([samples.length, train.length]).toEqual([9673, 38575]);
    const counts = new Map<string, number>();
    for (const { category } of samples) counts.set(category, (counts.get(category) ?? 0) + 1);
    expect(Object.fromEntries(counts)).toMatchInlineSnapshot(`
      {
        "colour": 1280,
        "shape": 1257,
        "yes/no": 7136,
      }
    `);
    const answers = new Set(samples.filter(({ category }) => category === 'colour').flatMap(({ targets }) => targets));
    expect([...answers].sort()).toEqual(['black', 'blue', 'brown', 'gray', 'green', 'red', 'teal', 'yellow']);
  });

  test('asks with the image before the question', () => {
    const { images = [], ...rest } = samples[0] ?? sample();
    expect(rest).toEqual({ id: '0', question: 'what is the red shape?', targets: ['triangle'], category: 'shape' });
    expect(images[0]).toMatch(/test\/images\/0\.png$/);
    expect(easyVqa.prompt(samples[0] ?? sample())).toEqual([
      {
        role: 'user',
        content: [
          { type: 'image', image: images[0] },
          { type: 'text', text: 'what is the red shape?' },
        ],
      },
    ]);
  });

  test('is answered without the image as often as the published language prior says', () => {
    expect(shares(scoreBaseline(easyVqa, samples, majorityBaseline(train)))).toMatchInlineSnapshot(`
      {
        "all": 0.4352,
        "colour": 0.1164,
        "shape": 0.358,
        "yes/no": 0.506,
      }
    `);
    expect(shares(scoreBaseline(easyVqa, samples, questionOnlyBaseline(train)))).toMatchInlineSnapshot(`
      {
        "all": 0.6694,
        "colour": 0.1203,
        "shape": 0.3429,
        "yes/no": 0.8254,
      }
    `);
  });
});

describe('baselines', () => {
  const train = [
    sample({ question: 'Is it red?', targets: ['no'] }),
    sample({ question: 'is it red? ', targets: ['no'] }),
    sample({ question: 'is it red?', targets: ['yes'] }),
    sample({ question: 'is it blue?', targets: ['yes'] }),
    sample({ question: 'is it blue?', targets: ['no'] }),
    sample({ question: 'what is it?', targets: ['cup'], category: 'shape' }),
  ];

  test('give the commonest answer of the category, or of the question', () => {
    expect(majorityBaseline(train)(sample())).toBe('no');
    expect(majorityBaseline(train)(sample({ category: 'shape' }))).toBe('cup');
    expect(questionOnlyBaseline(train)(sample({ question: 'is it RED?' }))).toBe('no');
  });

  test('fall back to the commonest of all, and settle ties by the alphabet', () => {
    expect(majorityBaseline(train)(sample({ category: 'colour' }))).toBe('no');
    expect(questionOnlyBaseline(train)(sample({ question: 'new?' }))).toBe('no');
    expect(questionOnlyBaseline(train)(sample({ question: 'is it blue?' }))).toBe('no');
  });
});

describe('the task for questions of the user', () => {
  const rows = [
    { question_id: 1, image: 'a.png', text: 'Is it red?', answer: 'yes' },
    { question_id: 'two', text: 'How many?', answer: ['3', '4'] },
    { question_id: 3, image: ['a.png', 'b.png'], text: 'Which differs?', answer: 'the left one' },
    { question_id: 4, text: 'What?', answer: 'a', category: 'mine' },
  ];

  test.each([
    ['questions.jsonl', rows.map((row) => JSON.stringify(row)).join('\n')],
    ['questions.json', JSON.stringify(rows, null, 2)],
  ])('reads %s', async (name, text) => {
    const path = folder(name, text);
    writeFileSync(join(path, 'b.png'), '');
    const { samples } = await vqa.open(path);
    expect(samples.map(({ id, category, targets }) => [id, category, targets])).toEqual([
      ['1', 'yes/no', ['yes']],
      ['two', 'number', ['3', '4']],
      ['3', 'other', ['the left one']],
      ['4', 'mine', ['a']],
    ]);
    expect(samples[2]?.images).toEqual([join(path, 'images/a.png'), join(path, 'b.png')]);
  });

  async function complaint(text: string): Promise<string> {
    const path = folder('questions.jsonl', text);
    const error: unknown = await vqa.open(path).catch((reason: unknown) => reason);
    return String(error).replaceAll(path, 'DATA');
  }

  test('names the line of a row without an answer, of a misspelt field, and of half a row', async () => {
    const whole = '{"question_id": 1, "text": "a", "answer": "b"}';
    expect(await complaint(`${whole}\n\n{"question_id": 2, "text": "a"}`)).toMatchInlineSnapshot(
      `"DataError: DATA/questions.jsonl:3: answer: expected a text or a list of texts"`,
    );
    expect(await complaint('{"question_id": 1, "text": "a", "anwser": "b"}')).toMatchInlineSnapshot(
      `"DataError: DATA/questions.jsonl:1: answer: expected a text or a list of texts; anwser: unknown key, did you mean "answer"?"`,
    );
    expect(await complaint(`${whole}\n{"question_id": 2, "te`)).toMatchInlineSnapshot(
      `"DataError: DATA/questions.jsonl:2: not JSON: Unterminated string in JSON at position 22"`,
    );
  });
});

test.each(Object.entries(tasks))(
  '%s has the name that it is registered under, and says what it misses in an empty folder',
  async (name, task) => {
    expect(task.name).toBe(name);
    const error: unknown = await task.open(root).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'DataError', message: expect.stringContaining(root), hint: expect.stringMatching(/./) });
  },
);

test("other harnesses' names lead to tasks that exist, and hide none", () => {
  for (const [alias, name] of Object.entries(aliases)) expect([alias, name in tasks, alias in tasks]).toEqual([alias, true, false]);
});
