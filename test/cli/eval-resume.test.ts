import { once } from 'node:events';
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { onOneThread, picture, tinyCheckpoint } from '../generate/tiny-model.ts';
import { start, tinyllava } from './run.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-resume-'));
const { folder: model, remove } = await tinyCheckpoint();
const other = await tinyCheckpoint({ seed: 2 });
afterAll(() => {
  rmSync(root, { recursive: true });
  remove();
  other.remove();
});

/** Questions about three images, of which the last is cut off; every fiftieth is longer than the model reads. */
const data = join(root, 'data');
mkdirSync(data);
for (const i of [0, 1, 2]) {
  const bytes = await picture(i);
  writeFileSync(join(data, `${i}.png`), i === 2 ? bytes.subarray(0, bytes.length / 2) : bytes);
}
const asked = 1500;
const rows = Array.from({ length: asked }, (_, i) => ({
  question_id: i,
  image: `${Math.floor(i / 9) % 3}.png`,
  text: `what is this ?${' red'.repeat(i % 50 === 0 ? 400 : i % 7)}`,
  answer: ['a', 'red'],
  category: i % 2 ? 'odd' : 'even',
}));
writeFileSync(join(data, 'questions.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));

const command = (out: string, ...more: string[]): string[] => [
  ...['eval', model, '--tasks', 'vqa', '--data', data, '--out', out, '--batch-size', '4', '--threads', '1', ...more],
];
const samplesOf = (out: string): string => {
  try {
    return readFileSync(join(out, 'samples_vqa.jsonl'), 'utf8');
  } catch {
    return '';
  }
};
const files = (out: string): string[] =>
  ['samples_vqa.jsonl', 'results.json', 'run.json'].map((name) => readFileSync(join(out, name), 'utf8'));

const unbroken = join(root, 'unbroken');
const first = await tinyllava(...command(unbroken));

/** Runs until so many samples are written, then kills the process as nothing can be prepared for. */
async function killedAt(lines: number, out: string, ...more: string[]): Promise<void> {
  const { child, outcome } = start(command(out, ...more));
  while (samplesOf(out).split('\n').length - 1 < lines && child.exitCode === null) await wait(5);
  child.kill('SIGKILL');
  expect((await outcome).code).toBe(null);
}

describe('an evaluation that is killed', () => {
  test('goes on where it was, asks nothing twice, and ends with the files of an unbroken run', async () => {
    expect(first.code).toBe(0);
    const out = join(root, 'killed');
    await killedAt(1, out);
    // The process died in the middle of a line.
    appendFileSync(join(out, 'samples_vqa.jsonl'), '{"doc_id":1499,"doc":{"id":"14');
    await killedAt(350, out, '--resume');
    await killedAt(800, out, '--resume');
    const kept = samplesOf(out)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const answered = new Set(kept.filter(({ resps }) => resps.length > 0).map(({ doc_id }) => doc_id));
    // Nothing that had an answer was asked again.
    expect(kept.filter(({ resps }) => resps.length > 0)).toHaveLength(answered.size);
    expect(answered.size).toBeGreaterThan(400);
    expect(answered.size).toBeLessThan(asked);
    const { code } = await tinyllava(...command(out, '--resume'));
    expect(code).toBe(0);
    expect(files(out)).toEqual(files(unbroken));
    expect(JSON.parse(readFileSync(join(out, 'timings.json'), 'utf8')).tasks.vqa.asked).toBe(asked - answered.size);
  });

  test('counts and names what could not be asked', () => {
    const { failures, firstFailure, metrics } = JSON.parse(readFileSync(join(unbroken, 'results.json'), 'utf8')).tasks.vqa;
    const unreadable = rows.filter(({ image }) => image === '2.png').length;
    const long = rows.filter(({ image }, i) => i % 50 === 0 && image !== '2.png').length;
    expect(failures).toBe(unreadable + long);
    expect(firstFailure).toMatch(/the prompt has \d+ tokens, and the model reads 256 with its answer/);
    expect(metrics[0].count).toBe(asked);
    expect(first.stdout).toContain(`${failures} failed and count as wrong`);
    expect(samplesOf(unbroken)).toMatch(/2\.png cannot be decoded/);
  });

  test('has nothing left to ask when it is over, by whatever path the model is named', async () => {
    const before = files(unbroken);
    expect(JSON.parse(before[1] ?? '').settings.model).toBe(basename(model));
    const otherwise = command(unbroken, '--resume').map((word) => (word === model ? relative('.', `${model}/`) : word));
    expect((await tinyllava(...otherwise)).code).toBe(0);
    expect(files(unbroken)).toEqual(before);
    expect(JSON.parse(readFileSync(join(unbroken, 'timings.json'), 'utf8')).tasks.vqa.asked).toBeLessThan(asked / 2);
  });
});

describe('a second evaluation in the folder of one that is going on', () => {
  const refused = async (out: string, ...more: string[]): Promise<string> => {
    const { code, stdout, stderr } = await tinyllava(...command(out, ...more));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    return stderr;
  };

  test.each([1, 2])('is refused and changes nothing in it, with %d processes', async (processes) => {
    const out = join(root, `busy-${processes}`);
    const { child, outcome } = start(command(out, '--processes', String(processes)));
    while (samplesOf(out).split('\n').length < 3 && child.exitCode === null) await wait(5);
    for (const flags of [['--resume'], []]) {
      expect(await refused(out, ...flags)).toBe(
        `error: ${out} is being written by another evaluation run (process ${child.pid} on ${hostname()})\n  fix: wait for it, or name another folder with --out\n`,
      );
    }
    expect((await outcome).code).toBe(0);
    expect(files(out)).toEqual(files(unbroken));
    expect(readdirSync(out).sort()).toEqual(readdirSync(unbroken).sort());
  });

  test('is refused where the first may run on another host, until its lock is removed', async () => {
    const out = join(root, 'elsewhere');
    await killedAt(3, out);
    const lock = join(out, 'evaluation.lock');
    writeFileSync(lock, JSON.stringify({ ...JSON.parse(readFileSync(lock, 'utf8')), host: 'elsewhere' }));
    expect(await refused(out, '--resume')).toMatch(
      /another evaluation run \(process \d+ on elsewhere, which cannot be seen from .*\)\n {2}fix: wait for it, .*; should it be gone, remove .*evaluation.lock\n$/,
    );
    rmSync(lock);
    expect((await tinyllava(...command(out, '--resume'))).code).toBe(0);
    expect(files(out)).toEqual(files(unbroken));
  });
});

test('Ctrl-C keeps what was answered and says how to go on', async () => {
  const out = join(root, 'interrupted');
  const { child, outcome } = start(command(out));
  while (samplesOf(out).split('\n').length < 20 && child.exitCode === null) await wait(5);
  child.kill('SIGINT');
  const { code, stderr } = await outcome;
  expect([code, stderr]).toEqual([130, expect.stringMatching(/error: interrupted; go on with --resume\n$/)]);
  expect((await tinyllava(...command(out, '--resume'))).code).toBe(0);
  expect(files(out)).toEqual(files(unbroken));
});

test.each([
  ['--device', 'cpu'],
  ['--threads', '1'],
  ['--dtype', 'float32'],
])('%s is refused for a model behind a server', async (flag, value) => {
  const { code, stderr } = await tinyllava('eval', 'openai:m', '--tasks', 'vqa', '--data', data, flag, value);
  expect([code, stderr]).toEqual([2, `error: ${flag} is for models here, and openai:m is behind a server\n  fix: leave it out\n`]);
});

test('a server that fails in the middle leaves what it answered, and the run goes on when it is back', async () => {
  let left = 5;
  const server = createServer((_, response) => {
    const text = JSON.stringify({ choices: [{ message: { content: 'red' }, finish_reason: 'stop' }] });
    if (left-- > 0) response.writeHead(200, { 'content-type': 'application/json' }).end(text);
    else response.writeHead(401).end('{}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const out = join(root, 'served');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  const flags = [
    'eval',
    'openai:m',
    '--base-url',
    url,
    '--tasks',
    'vqa',
    '--data',
    data,
    '--limit',
    '8',
    '--batch-size',
    '1',
    '--out',
    out,
  ];
  const { code, stderr } = await tinyllava(...flags);
  expect([code, stderr]).toEqual([1, expect.stringContaining('fix: what was answered is kept; go on with --resume')]);
  const kept = samplesOf(out);
  expect(kept.trimEnd().split('\n').length).toBe(3); // two answers were those to the probes
  left = 100;
  expect((await tinyllava(...flags, '--resume')).code).toBe(0);
  expect(samplesOf(out).trimEnd().split('\n').length).toBe(8);
  server.close();
});

describe('--resume', () => {
  const out = join(root, 'small');
  const left = async (): Promise<void> => {
    rmSync(out, { recursive: true, force: true });
    expect((await tinyllava(...command(out, '--limit', '8'))).code).toBe(0);
    rmSync(join(out, 'results.json'));
  };
  const said = async (...argv: string[]): Promise<string> => {
    const { code, stderr } = await tinyllava(...argv);
    expect(code).toBe(1);
    return stderr.replaceAll(root, '').replaceAll(/"[0-9a-f]{56}…/g, 'SHA');
  };

  test('refuses another model, task, profile, limit or data, and names what differs', async () => {
    await left();
    const resume = (...more: string[]) => said(...command(out, '--limit', '8', '--resume', ...more));
    expect(await said(...command(out, '--limit', '8', '--resume').map((word) => (word === model ? other.folder : word)))).toBe(
      'error: /small holds another run: settings.weights was SHA and is SHA\n  fix: give --resume what the run began with, or name another folder with --out\n',
    );
    expect(await resume('--profile', 'lmms-eval')).toContain('settings.profile was "official" and is "lmms-eval"');
    expect(await resume('--limit', '9')).toMatch(/settings.limit was 8 and is 9; tasks.vqa.samples was 8 and is 9/);
    expect(await resume('--dtype', 'bfloat16')).toContain('settings.dtype was "float32" and is "bfloat16"');
    const moved = join(root, 'moved');
    cpSync(data, moved, { recursive: true });
    writeFileSync(
      join(moved, 'questions.jsonl'),
      readFileSync(join(data, 'questions.jsonl'), 'utf8').replace('what is this', 'what is red'),
    );
    expect(await resume('--data', moved)).toMatch(
      /^error: \/small holds another run: tasks.vqa.data was SHA and is SHA; tasks.vqa.questions was SHA and is SHA\n/,
    );
    expect((await tinyllava(...command(out, '--limit', '8', '--resume'))).code).toBe(0);
  });

  test('is asked for where a run was left, and begins one where there is none', async () => {
    await left();
    expect(await said(...command(out, '--limit', '8'))).toMatch(
      /^error: \/small holds a run that is not finished\n {2}fix: go on with it by --resume/,
    );
    rmSync(out, { recursive: true });
    expect((await tinyllava(...command(out, '--limit', '8', '--resume'))).code).toBe(0);
    expect(await tinyllava('eval', model, '--tasks', 'vqa', '--data', data, '--resume')).toMatchObject({ code: 2 });
  });

  test('names a line that no run wrote', async () => {
    await left();
    writeFileSync(join(out, 'samples_vqa.jsonl'), `{"doc_id":1}\n${samplesOf(out)}`);
    expect(await said(...command(out, '--limit', '8', '--resume'))).toBe(
      'error: /small/samples_vqa.jsonl:1: not a sample that a run wrote\n  fix: delete the line: its question is then asked again\n',
    );
  });
});
