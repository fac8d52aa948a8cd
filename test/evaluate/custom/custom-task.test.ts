import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openTasks } from '../../../src/evaluate/open-tasks.ts';
import { scoreAnswers } from '../../../src/evaluate/score-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-custom-'));
afterAll(() => rmSync(root, { recursive: true }));

const rows = [
  { qid: 'a', text: 'Which?', A: 'a cat', B: 'a dog', truth: 'B', kind: 'pets', picture: '1.png', note: 'first' },
  { qid: 'b', text: 'What?', A: 'red', B: 'blue', truth: 'red', kind: 'colours', picture: '2.png', note: 'second' },
];
mkdirSync(join(root, 'data'));
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

  test('fails before anything is asked, with what is wrong in it', async () => {
    expect(await message(file('a.yaml', good.replace('score: choice', 'score: choise')))).toMatchInlineSnapshot(
      `"ROOT/a.yaml: score: Invalid option: expected one of "exact"|"contains"|"choice"|"vqa"|"anls"|"relaxed", got "choise" | "`,
    );
    expect(await message(file('b.yaml', `${good}\npromt: x`))).toMatchInlineSnapshot(`"ROOT/b.yaml: Unrecognized key: "promt" | "`);
    expect(await message(file('c.yaml', good.replace('options: [A, B]', 'options: [A, B')))).toContain('ROOT/c.yaml: ');
    expect(await message(file('d.yaml', good.replace('answer: truth', 'answer: truht')))).toMatchInlineSnapshot(
      `"ROOT/data/mine.jsonl#0: no column truht | there are qid, text, A, B, truth, kind, picture, note"`,
    );
    expect(await message(file('e.yaml', good.replace('{note}', '{nota}')))).toMatchInlineSnapshot(
      `"ROOT/e.yaml: prompt: there is no {nota} | use {question}, {options}, or a column: qid, text, A, B, truth, kind, picture, note"`,
    );
    expect(await message(file('f.yaml', good.replace('mine.jsonl', 'yours.jsonl')))).toMatchInlineSnapshot(
      `"ROOT/f.yaml: questions: there is no yours.jsonl | looked in ROOT/data, ROOT/data/mine, ROOT"`,
    );
    expect(await message(file('g.yaml', good.replace(', options: [A, B]', '')))).toMatchInlineSnapshot(
      `"ROOT/g.yaml: columns.options: missing, but score is choice | name the column that holds the options"`,
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
  });
});

describe('the examples of docs/evaluation.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/evaluation.md'), 'utf8');
  const block = (language: string): string => new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(page)?.[1] ?? '';

  test('are tasks', async () => {
    writeFileSync(
      join(root, 'data/plants.tsv'),
      'index\tquestion\tfile\tanswer\tfamily\tA\tB\tC\tD\n1\tWhich?\t1.png\tB\troses\ta\tb\tc\td\n',
    );
    const tasks = [file('plants.yaml', block('yaml')), file('example.ts', block('ts'))];
    const opened = await openTasks({ tasks, data: join(root, 'data') });
    expect(opened.map(({ task, benchmark }) => [task.name, benchmark.samples[0]?.question])).toEqual([
      ['plants', 'Which?'],
      ['mine', 'What?'],
    ]);
  });
});
