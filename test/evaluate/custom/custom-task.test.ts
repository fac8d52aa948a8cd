import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openTasks } from '../../../src/evaluate/open-tasks.ts';
import { scoreAnswers } from '../../../src/evaluate/score-answers.ts';
import type { Task } from '../../../src/evaluate/task.ts';
import { tasks } from '../../../src/evaluate/tasks/index.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-custom-'));
afterAll(() => rmSync(root, { recursive: true }));

const rows = [
  { qid: 'a', text: 'Which?', A: 'a cat', B: 'a dog', truth: 'B', kind: 'pets', picture: '1.png', note: 'first', same: 1 },
  { qid: 'b', text: 'What?', A: 'red', B: 'blue', truth: 'red', kind: 'colours', picture: '2.png', note: 'second', same: 1 },
];
for (const folder of ['pictures', 'photos']) mkdirSync(join(root, 'data', folder), { recursive: true });
for (const name of ['pictures/1.png', 'photos/1.png', '1.png']) writeFileSync(join(root, 'data', name), '');
writeFileSync(join(root, 'data/mine.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));

function file(name: string, text: string): string {
  const path = join(root, name);
  writeFileSync(path, text);
  return path;
}

const good = `
name: mine
about: letters
questions: mine.jsonl
images: pictures
columns: { id: qid, question: text, image: picture, answer: truth, category: kind, options: [A, B] }
prompt: "{note}: {question}\\n{options}\\nAnswer with the letter."
maxNewTokens: 8
score: choice
`;

const message = async (tasks: string): Promise<string> => {
  const error: unknown = await openTasks({ tasks: [tasks], data: join(root, 'data') }).catch((reason: unknown) => reason);
  return `${(error as Error).message} | ${(error as { hint?: string }).hint ?? ''}`.replaceAll(root, 'ROOT');
};

describe('a task in YAML', () => {
  test('reads questions, asks them as it says, and scores letters or the texts of options', async () => {
    const path = file('good.yaml', good);
    const [opened] = await openTasks({ tasks: [path], data: join(root, 'data') });
    const [first] = opened?.benchmark.samples ?? [];
    expect(first && opened?.task.prompt(first)).toEqual([
      {
        role: 'user',
        content: [
          { type: 'image', image: join(root, 'data/pictures/1.png') },
          { type: 'text', text: 'first: Which?\nA. a cat\nB. a dog\nAnswer with the letter.' },
        ],
      },
    ]);
    const answers = file('answers.jsonl', '{"question_id": "a", "text": "(B)"}\n{"question_id": "b", "text": "It is blue."}\n');
    const { scores, missing, unparsed } = await scoreAnswers(path, { answers, data: join(root, 'data') });
    expect(scores).toEqual({ accuracy: 50, colours: 0, pets: 100 });
    expect([missing, unparsed]).toEqual([0, 0]);
  });

  test('scores answers without the images of a table', async () => {
    writeFileSync(join(root, 'data/table.tsv'), 'index\tquestion\timage\tanswer\n1\tWhat?\tAAAA\tred\n');
    const path = file('table.yaml', 'name: table\nquestions: table.tsv\ncolumns: { id: index, image: image }\nscore: exact\n');
    const answers = file('red.jsonl', '{"question_id": 1, "text": "Red"}');
    expect((await scoreAnswers(path, { answers, data: join(root, 'data') })).scores).toEqual({ accuracy: 100 });
  });

  test('fails before anything is asked, with what is wrong in it', async () => {
    expect(await message(file('a.yaml', good.replace('score: choice', 'score: choise')))).toMatchInlineSnapshot(
      `"ROOT/a.yaml: score: expected one of "exact"|"contains"|"choice"|"vqa"|"anls"|"relaxed", got "choise" | "`,
    );
    expect(await message(file('b.yaml', `${good}\npromt: x`))).toMatchInlineSnapshot(
      `"ROOT/b.yaml: promt: unknown key, did you mean "prompt"? | "`,
    );
    expect(await message(file('l.yaml', '- a'))).toBe('ROOT/l.yaml: task: expected a map, got a list | ');
    expect(await message(file('c.yaml', good.replace('options: [A, B]', 'options: [A, B')))).toContain('ROOT/c.yaml: ');
    expect(await message(file('d.yaml', good.replace('answer: truth', 'answer: truht')))).toMatchInlineSnapshot(
      `"ROOT/data/mine.jsonl: no column truht | there are qid, text, A, B, truth, kind, picture, note, same"`,
    );
    expect(await message(file('e.yaml', good.replace('{note}', '{nota}')))).toMatchInlineSnapshot(
      `"ROOT/e.yaml: prompt: there is no {nota} | use {question}, {options}, or a column: qid, text, A, B, truth, kind, picture, note, same"`,
    );
    expect(await message(file('f.yaml', good.replace('mine.jsonl', 'yours.jsonl')))).toMatchInlineSnapshot(
      `"ROOT/f.yaml: questions: there is no yours.jsonl | looked in ROOT/data, ROOT/data/mine, ROOT"`,
    );
    expect(await message(file('g.yaml', good.replace(', options: [A, B]', '')))).toMatchInlineSnapshot(
      `"ROOT/g.yaml: columns.options: missing, but score is choice | name the column that holds the options"`,
    );
    for (const [place, wrong] of [
      ['image: picture', 'image: pictrue'],
      ['category: kind', 'category: knid'],
      ['[A, B]', '[A, B, E]'],
    ] as const) {
      const column = wrong.match(/\w+(?=\]?$)/)?.[0];
      expect(await message(file('h.yaml', good.replace(place, wrong)))).toContain(`ROOT/data/mine.jsonl: no column ${column} |`);
    }
    expect(await message(file('i.yaml', good.replace('images: pictures', 'images: potos')))).toMatchInlineSnapshot(
      `"ROOT/i.yaml: none of its images exists, such as ROOT/data/potos/1.png | check the folder of the images, and how the questions name them"`,
    );
    expect(await message(file('j.yaml', good.replace('id: qid', 'id: same')))).toMatchInlineSnapshot(
      `"ROOT/j.yaml: two questions have the id 1 | give each an id of its own"`,
    );
    expect(await message(join(root, 'none.yaml'))).toContain('none.yaml does not exist');
  });
});

const coded = `
import { exactMatch, meanByCategory, type Task } from 'tinyllava';

export const task: Task = {
  name: 'coded',
  about: 'one question',
  maxNewTokens: 4,
  open: async () => ({ samples: [{ id: '1', question: 'q', images: [], targets: ['yes'], category: 'all' }], files: [] }),
  prompt: ({ question }) => [{ role: 'user', content: question as string }],
  score: exactMatch,
  aggregate: meanByCategory,
};
`;

describe('a task in TypeScript', () => {
  test('is loaded with what it imports from the package', async () => {
    const [opened] = await openTasks({ tasks: [file('coded.ts', coded)], data: root });
    expect([opened?.task.name, opened?.benchmark.samples.length]).toEqual(['coded', 1]);
  });

  test('fails before anything is asked, with what is wrong in it', async () => {
    expect(await message(file('a.ts', coded.replace('export const task', 'const task')))).toContain('no task in it');
    expect(await message(file('b.ts', coded.replace("  about: 'one question',", '')))).toContain('task.about: ');
    expect(await message(file('c.ts', coded.replace('score: exactMatch', 'score: () => 1')))).toContain(
      'score of the first sample gives no result',
    );
    expect(await message(file('d.ts', coded.replace('score: exactMatch', "score: () => { throw new Error('oh') }")))).toContain(
      'score of the first sample fails: oh',
    );
    expect(await message(file('e.ts', coded.replace('name:', 'name')))).toContain('cannot be loaded');
    expect(await message(file('f.ts', coded.replace("'coded'", "'my/task'")))).toContain(
      'task.name: expected small letters, digits, +, - and _',
    );
    expect(await message(file('i.ts', coded.replace('maxNewTokens: 4', "maxNewTokens: 4, submissionForm: 'csv'")))).toContain(
      'task.submissionForm: expected one of "json"|"jsonl"|"xlsx", got "csv"',
    );
    const sample = "{ id: '1', question: 'q', images: [], targets: ['yes'], category: 'all' }";
    expect(await message(file('g.ts', coded.replace(sample, `${sample}, ${sample}`)))).toContain('g.ts: two questions have the id 1');
    expect(await message(file('j.ts', coded.replace("id: '1'", 'id: 1')))).toContain('open gives no samples and files: samples.0.id: ');
    const failing = `${coded.replace('open:', 'closed:').replace('maxNewTokens', "open() { throw new Error('no disk') },\n  maxNewTokens")}`;
    expect(await message(file('k.ts', failing))).toBe('ROOT/k.ts: open fails: no disk | ');
    expect(await message(file('h.ts', coded.replace('images: []', "images: ['none.png']")))).toContain(
      'h.ts: none of its images exists, such as none.png',
    );
  });
});

test('two tasks of one name are refused; one task by two names is asked once', async () => {
  const task = file('vqa.ts', coded.replace("'coded'", "'vqa'"));
  writeFileSync(join(root, 'data/questions.jsonl'), '{"question_id": 1, "text": "q", "answer": "a"}');
  const opened = (...wanted: (string | Task)[]) => openTasks({ tasks: wanted, data: join(root, 'data') });
  await expect(opened('vqa', task)).rejects.toThrow('two tasks are called vqa');
  expect(await opened('vqa', tasks.vqa)).toHaveLength(1);
  writeFileSync(join(root, 'data/questions.jsonl'), '{"question_id": 1, "text": "q", "answer": "a"}\n'.repeat(2));
  await expect(opened('vqa')).rejects.toThrow('questions.jsonl: two questions have the id 1');
});

describe('the examples of docs/evaluation.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/evaluation.md'), 'utf8');
  const block = (language: string): string => new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(page)?.[1] ?? '';

  test('are tasks', async () => {
    writeFileSync(
      join(root, 'data/plants.tsv'),
      'index\tquestion\tfile\tanswer\tfamily\tA\tB\tC\tD\n1\tWhich?\t1.png\tB\troses\ta\tb\tc\td\n',
    );
    const files = [file('plants.yaml', block('yaml')), file('example.ts', block('ts'))];
    const opened = await openTasks({ tasks: files, data: join(root, 'data') });
    expect(opened.map(({ task, benchmark }) => [task.name, benchmark.samples[0]?.question])).toEqual([
      ['plants', 'Which?'],
      ['mine', 'What?'],
    ]);
  });
});
