import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { xlsxRows } from '../../src/evaluate/tables/xlsx.ts';
import { onOneThread, picture, tinyCheckpoint } from '../generate/tiny-model.ts';
import { tinyllava } from './run.ts';

onOneThread();
const root = mkdtempSync(join(tmpdir(), 'tinyllava-score-'));
const { folder: model, remove } = await tinyCheckpoint();
const cache = process.env['TINYLLAVA_CACHE'];
// Images out of tables are unpacked there.
beforeAll(() => {
  process.env['TINYLLAVA_CACHE'] = join(root, 'cache');
});
afterAll(() => {
  if (cache === undefined) delete process.env['TINYLLAVA_CACHE'];
  else process.env['TINYLLAVA_CACHE'] = cache;
  rmSync(root, { recursive: true });
  remove();
});

const data = join(root, 'mmbench');
mkdirSync(data);
const images = await Promise.all([1, 1, 2, 2].map(async (seed) => Buffer.from(await picture(seed)).toString('base64')));
const rows = [
  '0\tWhat is it?\ta cat\ta dog\tB',
  '1000000\tWhat is it?\ta dog\ta cat\tA',
  '1\tWhich?\tred\tblue\tA',
  '1000001\tWhich?\tblue\tred\tB',
];
writeFileSync(
  join(data, 'mmbench_dev_20230712.tsv'),
  `index\tquestion\tA\tB\tanswer\tcategory\timage\n${rows.map((row, i) => `${row}\tall\t${images[i]}`).join('\n')}\n`,
);
const answers = join(root, 'answers.jsonl');
writeFileSync(
  answers,
  ['B', 'A', 'A', 'A'].map((text, i) => JSON.stringify({ question_id: [0, 1000000, 1, 1000001][i], text })).join('\n'),
);

describe('score', () => {
  test('prints a table, or one JSON object with task, profile and scores', async () => {
    const { code, stdout } = await tinyllava('score', 'mmbench-en', '--answers', answers, '--data', root);
    expect(code).toBe(0);
    expect(stdout).toMatchInlineSnapshot(`
      "## mmbench-en

      | questions | count | score | 95 % interval |
      | --------- | ----: | ----: | ------------: |
      | circular  |     2 |  50.0 |    9.5 - 90.5 |
      | vanilla   |     2 | 100.0 |  34.2 - 100.0 |

      4 questions, profile official. Two models are seldom told apart on them whose mean scores, of 100 a question, differ by less than 100.0 (80 % power, 5 % test, paired).

      questions share images and fall into 2 groups, which intervals allow for.
      "
    `);
    const json = JSON.parse(
      (await tinyllava('score', 'mmbench-en', '--answers', answers, '--data', root, '--profile', 'lmms-eval', '--json')).stdout,
    );
    expect(json).toMatchObject({
      task: 'mmbench-en',
      profile: 'lmms-eval',
      scores: { circular: 50, vanilla: 100 },
      questions: 4,
      missing: 0,
    });
    expect(json.metrics[0]).toMatchObject({ name: 'circular', value: 50, count: 2, max: 100 });
  });

  test('says what answers in another form may be saved as', async () => {
    const file = join(root, 'answers.csv');
    writeFileSync(file, 'index,prediction\n0,B\n');
    const { code, stderr } = await tinyllava('score', 'mmbench-en', '--answers', file, '--data', root);
    expect([code, stderr]).toEqual([
      1,
      `error: ${file}: answers are not read from .csv\n  fix: save it as .tsv or .xlsx, or write JSONL\n`,
    ]);
  });

  test("writes what a benchmark's server takes", async () => {
    const out = join(root, 'submission.xlsx');
    expect((await tinyllava('score', 'mmbench-en', '--answers', answers, '--data', root, '--submission', out)).code).toBe(0);
    const [first] = await xlsxRows(out);
    expect(first).toEqual({ index: '0', question: 'What is it?', A: 'a cat', B: 'a dog', prediction: 'B', answer: 'B' });
  });

  test('finds out before anything is read that no server takes such a submission', async () => {
    const submit = (task: string) =>
      tinyllava('score', task, '--answers', answers, '--data', join(root, 'nowhere'), '--submission', 'submission.json');
    const wrong = await submit('mmbench-en');
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('the server of mmbench-en takes .xlsx, not submission.json')]);
    expect((await submit('mme')).stderr).toContain('mme has no server that takes answers');
  });

  test('makes no submission of grades without their questions', async () => {
    const grades = join(root, 'grades.json');
    writeFileSync(grades, JSON.stringify({ v1_0: { model: ['gpt'], score: [0.5] } }));
    const out = join(root, 'grades-submission.json');
    const { code, stderr } = await tinyllava('score', 'mm-vet', '--answers', grades, '--data', join(root, 'nowhere'), '--submission', out);
    expect([code, stderr]).toEqual([1, expect.stringContaining('nowhere has no questions of mm-vet')]);
  });

  test('names what is wrong, with the fix', async () => {
    const wrong = await tinyllava('score', 'popes', '--answers', answers, '--data', root);
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('error: unknown task "popes"\n  fix: did you mean "pope"?')]);
    const empty = await tinyllava('score', 'pope', '--answers', answers, '--data', join(root, 'nowhere'));
    expect([empty.code, empty.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: .*nowhere: no such folder\n {2}fix: put one of these there:\n {4}LLaVA: llava_pope_test\.jsonl, /),
    ]);
    const table = await tinyllava('score', 'pope', '--answers', answers, '--data', answers);
    expect(table.stderr).toMatch(/answers.jsonl: a file, and not the folder that holds it\n {2}fix: name a folder with one of these:\n/);
    const misspelt = await tinyllava('score', 'pope', '--answrs', answers, '--data', root);
    expect([misspelt.code, misspelt.stderr]).toEqual([2, "error: unknown option '--answrs'\n  fix: did you mean --answers?\n"]);
    const lacking = await tinyllava('score', 'pope', '--answers', answers);
    expect([lacking.code, lacking.stderr]).toEqual([
      2,
      expect.stringContaining("error: required option '--data <folder>' not specified\n  fix: see"),
    ]);
    expect((await tinyllava('score', 'pope', '--answers', answers, '--data', root, '--profile', 'other')).code).toBe(2);
  });
});

describe('eval', () => {
  test('finds missing files before it loads a model', async () => {
    const { code, stderr } = await tinyllava('eval', join(root, 'no-model'), '--tasks', 'mmbench-en,pope', '--data', root);
    expect([code, stderr]).toEqual([1, expect.stringContaining("none of pope's files")]);
  });

  test('asks with images out of the table, says profile, prompt, files and settings, and its samples can be scored again', async () => {
    const out = join(root, 'out');
    const { code, stderr } = await tinyllava('eval', model, '--tasks', 'mmbench-en', '--data', root, '--out', out, '--limit', '2');
    expect([code, stderr.includes('error')]).toEqual([0, false]);
    const { settings, tasks } = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
    expect(settings).toMatchObject({ profile: 'official', dtype: 'float32' });
    expect(tasks['mmbench-en']).toMatchObject({
      layout: 'LLaVA and VLMEvalKit',
      maxNewTokens: 1024,
      failures: 0,
      firstPrompt: "<image>\nWhat is it?\nA. a cat\nB. a dog\nAnswer with the option's letter from the given choices directly.",
      dataSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    const again = await tinyllava('score', 'mmbench-en', '--answers', join(out, 'samples_mmbench-en.jsonl'), '--data', root, '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ questions: 4, missing: 2 });
  });
});

describe('compare', () => {
  const write = (name: string, scores: readonly number[], task = 'vqa'): string => {
    const folder = resolve(root, name);
    mkdirSync(folder, { recursive: true });
    const lines = scores.map((score, i) =>
      JSON.stringify({
        doc_id: i,
        doc: { id: String(i), question: 'q', images: [], category: 'all' },
        target: ['a'],
        resps: ['b'],
        filtered_resps: ['b'],
        score,
      }),
    );
    writeFileSync(join(folder, `samples_${task}.jsonl`), `${lines.join('\n')}\n`);
    return folder;
  };

  test('says how two runs differ on the same questions', async () => {
    const first = write('first', [1, 0, 0, 0, 0, 0, 0, 1]);
    const second = write('second', [1, 1, 1, 1, 1, 1, 1, 0]);
    const { stdout } = await tinyllava('compare', first, second);
    expect(stdout).toMatch(
      /^task +questions +mean score, of 100 +95 % interval +better +worse +p\nvqa +8 +\+62\.50 +\+?-?[\d.]+ to \+[\d.]+ +6 +1 +0\.13\n$/,
    );
    const [json] = JSON.parse((await tinyllava('compare', first, second, '--json')).stdout);
    expect(json).toMatchObject({
      task: 'vqa',
      samples: 8,
      better: ['1', '2', '3', '4', '5', '6'],
      worse: ['7'],
      rightOrWrong: { onlyFirst: 1, onlySecond: 6 },
    });
    expect((await tinyllava('compare', first, data)).stderr).toContain('have no task in common');
  });

  test('goes on where the runs of one task are not of the same questions, and fails where those of all are', async () => {
    const [whole, part] = [write('whole', [1, 0, 1]), write('part', [1, 1])];
    const alone = await tinyllava('compare', whole, part);
    expect([alone.code, alone.stderr]).toEqual([1, expect.stringMatching(/vqa of .*whole and .*part: .*\n {2}fix: /)]);
    for (const folder of [whole, part]) write(folder, [0, 1], 'pope');
    const { code, stdout } = await tinyllava('compare', whole, part);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/\npope +2 .*\nvqa is not compared: sample 2 is in the first run only; go on/),
    ]);
  });

  test('says what beside the model tells runs apart', async () => {
    const judged = (profile: string, served: string) => ({
      settings: { profile },
      tasks: { 'mm-vet': { judge: { model: 'j', baseUrl: 'u', served: [served] }, dataSha256: 'a'.repeat(64) } },
    });
    const [one, other] = ['one', 'other'].map((name) => write(name, [1, 0.5], 'mm-vet'));
    writeFileSync(join(one ?? '', 'results.json'), JSON.stringify(judged('official', 'j-1')));
    writeFileSync(join(other ?? '', 'results.json'), JSON.stringify(judged('lmms-eval', 'j-2')));
    expect((await tinyllava('compare', one ?? '', other ?? '')).stdout).toContain(
      `${other} differs from ${one} in more than the model: profile lmms-eval, not official; mm-vet was judged by j as j-2, not j as j-1\n`,
    );
    expect((await tinyllava('compare', one ?? '', one ?? '')).stdout).not.toContain('more than the model');
  });

  test('takes no side between answers that may wait for their judge, nor for results that cannot be read', async () => {
    const judged = write('judged', [1, 0.5], 'mm-vet');
    writeFileSync(join(judged, 'results.json'), JSON.stringify({ tasks: { 'mm-vet': {} } }));
    const unfinished = write('unfinished', [0, 0], 'mm-vet');
    expect((await tinyllava('compare', judged, unfinished)).stdout).toBe(
      'mm-vet is not compared: a run is not finished, and its answers may not be judged\n',
    );
    writeFileSync(join(unfinished, 'results.json'), '{"tasks": ');
    const { code, stderr } = await tinyllava('compare', judged, unfinished);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`${join(unfinished, 'results.json')}: `)]);
  });
});
