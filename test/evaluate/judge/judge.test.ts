import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { evaluate } from '../../../src/evaluate/evaluate.ts';
import { Judge } from '../../../src/evaluate/judge/judge.ts';
import { judgeScored } from '../../../src/evaluate/judge/judge-scored.ts';
import type { JudgeCall, JudgeQuestion } from '../../../src/evaluate/judge/question.ts';
import { scoreTable } from '../../../src/evaluate/report.ts';
import type { Respondent } from '../../../src/evaluate/respondent/respondent.ts';
import { readSamples } from '../../../src/evaluate/samples-file.ts';
import { scoreAnswers } from '../../../src/evaluate/score-answers.ts';
import type { Sample, Scored } from '../../../src/evaluate/task.ts';
import { tasks } from '../../../src/evaluate/tasks/index.ts';
import { llavaBench } from '../../../src/evaluate/tasks/llava-bench.ts';
import { ChatModel } from '../../../src/generate/generate.ts';
import { onOneThread, picture, tinyModel } from '../../generate/tiny-model.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-judge-'));
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});
afterAll(() => rmSync(root, { recursive: true }));

interface Asked {
  readonly model: string;
  readonly messages: readonly { role: string; content: string }[];
  readonly temperature: number;
  readonly max_tokens: number;
}

function refuse(response: ServerResponse, status: number, message = 'no'): undefined {
  response.writeHead(status).end(JSON.stringify({ error: { message } }));
  return undefined;
}

/** A server that answers as `reply` says; gives its address and what it was asked. */
async function serve(
  reply: (asked: Asked, request: IncomingMessage, response: ServerResponse) => string | undefined,
): Promise<{ baseUrl: string; calls: Asked[] }> {
  const calls: Asked[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (piece: Buffer) => {
      text += piece.toString();
    });
    request.on('end', () => {
      const asked = JSON.parse(text) as Asked;
      calls.push(asked);
      const content = reply(asked, request, response);
      if (content !== undefined) response.end(JSON.stringify({ model: 'judge-2026', choices: [{ message: { content } }] }));
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/`, calls };
}

let caches = 0;
const judgeAt = (baseUrl: string, more: { key?: string; cache?: string; tries?: number; parallel?: number; waitMs?: number } = {}): Judge =>
  new Judge({ model: 'judge', baseUrl, cache: join(root, `cache-${caches++}`), waitMs: 1, ...more });

const call = { messages: [{ role: 'user', content: 'how good?' }], temperature: 0, maxTokens: 3 } as const;

describe('a judge', () => {
  test('is asked over HTTP with its key, and never twice the same', async () => {
    const { baseUrl, calls } = await serve((_, request) => (request.headers.authorization === 'Bearer secret' ? '0.5' : 'no key'));
    const cache = join(root, 'shared');
    const first = judgeAt(baseUrl, { key: 'secret', cache });
    expect([await first.reply(call), await first.reply(call)]).toEqual(['0.5', '0.5']);
    const second = judgeAt(baseUrl, { cache });
    expect(await second.reply(call)).toBe('0.5');
    expect(await second.reply({ ...call, temperature: 0.5 })).toBe('no key');
    expect(calls.map(({ model, temperature, max_tokens }) => [model, temperature, max_tokens])).toEqual([
      ['judge', 0, 3],
      ['judge', 0.5, 3],
    ]);
    expect(second.identity).toEqual({ model: 'judge', baseUrl: baseUrl.slice(0, -1), served: ['judge-2026'] });
  });

  test('is asked once what is asked twice at the same time', async () => {
    const { baseUrl, calls } = await serve(() => '0.5');
    const cache = join(root, 'at-once');
    const [one, other] = [judgeAt(baseUrl, { cache }), judgeAt(baseUrl, { cache })];
    expect(await Promise.all([one.reply(call), one.reply(call), other.reply(call)])).toEqual(['0.5', '0.5', '0.5']);
    expect(calls).toHaveLength(2);
    expect(readdirSync(cache, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.part'))).toEqual([]);
  });

  test('is asked in the words that it takes', async () => {
    const { baseUrl, calls } = await serve((asked, _, response) => {
      if (asked.max_tokens !== undefined) return refuse(response, 400, "Use 'max_completion_tokens' instead.");
      if (asked.temperature !== undefined) return refuse(response, 400, "'temperature' does not support 0 with this model.");
      return '0.5';
    });
    const judge = judgeAt(baseUrl);
    await judge.check();
    expect(await judge.reply(call)).toBe('0.5');
    expect(calls.at(-1)).toEqual({ model: 'judge', messages: call.messages, max_completion_tokens: 3 });
    expect(judge.identity).toMatchObject({ temperature: 'default' });
  });

  test('gives its reply where it cannot be kept', async () => {
    const { baseUrl } = await serve(() => '0.5');
    const [kept, full] = [join(root, 'kept'), join(root, 'full')];
    await judgeAt(baseUrl, { cache: kept }).reply(call);
    const files = readdirSync(kept, { recursive: true, encoding: 'utf8' });
    // A folder stands where the reply would go.
    mkdirSync(join(full, files.find((name) => name.endsWith('.json')) ?? '', 'x'), { recursive: true });
    expect(await judgeAt(baseUrl, { cache: full }).reply(call)).toBe('0.5');
    expect(readdirSync(full, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.part'))).toEqual([]);
    writeFileSync(join(root, 'file'), '');
    expect(await judgeAt(baseUrl, { cache: join(root, 'file') }).reply(call)).toBe('0.5');
  });

  test('is tried again when the server is busy or broken', async () => {
    let count = 0;
    const { baseUrl } = await serve((_, __, response) => {
      count += 1;
      if (count > 2) return '1';
      response.statusCode = count === 1 ? 503 : 429;
      response.end('busy');
      return undefined;
    });
    expect(await judgeAt(baseUrl).reply(call)).toBe('1');
    expect(count).toBe(3);
  });

  test('is waited for no longer than wanted', async () => {
    const { baseUrl, calls } = await serve((_, __, response) => refuse(response, 503));
    const wanted = new AbortController();
    const reply = judgeAt(baseUrl, { waitMs: 60_000 }).reply(call, wanted.signal);
    while (calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    setTimeout(() => wanted.abort(new Error('no longer')), 50);
    await expect(reply).rejects.toThrow('no longer');
    const check = judgeAt(baseUrl, { waitMs: 60_000 }).check(AbortSignal.timeout(50));
    await expect(check).rejects.toThrow('aborted due to timeout');
  });

  test('that refuses the key is found out at once, with what the server said', async () => {
    const { baseUrl, calls } = await serve((_, __, response) => {
      response.statusCode = 401;
      response.end('{"error": "bad key"}');
      return undefined;
    });
    await expect(judgeAt(baseUrl, { key: 'x' }).check()).rejects.toMatchObject({
      name: 'ConfigError',
      message: expect.stringContaining('does not answer: HTTP 401 {"error": "bad key"}'),
      hint: 'check its name, address and key',
    });
    expect(calls).toHaveLength(1);
  });

  test('that is not there is named with its address', async () => {
    await expect(judgeAt('http://127.0.0.1:9/v1', { tries: 2 }).check()).rejects.toMatchObject({
      message: expect.stringMatching(/^the judge judge at http:\/\/127\.0\.0\.1:9\/v1 does not answer: .+ \(tried 2 times\)$/),
      hint: expect.stringContaining('TINYLLAVA_JUDGE_KEY'),
    });
  });
});

describe('MM-Vet', () => {
  const questions = {
    v1_0: { imagename: 'a.png', question: 'What is x?', answer: '-1<AND>-5', capability: ['ocr', 'math'] },
    v1_1: { imagename: 'b.png', question: 'What is it?', answer: 'a cat', capability: ['rec'] },
  };
  writeFileSync(join(root, 'mm-vet.json'), JSON.stringify(questions));
  mkdirSync(join(root, 'images'));
  writeFileSync(join(root, 'images/a.png'), '');
  const answers = join(root, 'answers.jsonl');
  writeFileSync(answers, '{"question_id": 0, "text": "x = -1"}\n{"question_id": 1, "text": "a dog"}\n');

  test('has no scores without a judge, and says how to get them', async () => {
    const result = await scoreAnswers('mm-vet', { answers, data: root });
    expect(result).toMatchObject({
      metrics: [],
      scores: {},
      unscored: expect.stringContaining('--judge MODEL'),
      submission: { v1_0: 'x = -1', v1_1: 'a dog' },
    });
  });

  test('tells how far the runs of a judge lie apart, as its own evaluation does', async () => {
    const grades = join(root, 'grades.json');
    writeFileSync(grades, JSON.stringify({ v1_0: { model: ['gpt'], score: [0.5, 0.7] }, v1_1: { model: ['gpt'], score: [0, 0.2] } }));
    const { scores, notes } = await scoreAnswers('mm-vet', { answers: grades, data: root });
    expect(scores['total']).toBeCloseTo(35, 9);
    // 25 and 45 lie 10 from their mean.
    expect(notes).toEqual(['judged 2 times, the totals have a standard deviation of 10.0']);
  });

  test('has an answer that the judge refuses for a failure of that question', async () => {
    const { baseUrl } = await serve(({ messages }, _, response) =>
      messages[0]?.content.includes('a cat | a dog | ') ? refuse(response, 400, 'filtered') : '1.0',
    );
    const result = await scoreAnswers('mm-vet', { answers, data: root, judge: judgeAt(baseUrl) });
    expect(result).toMatchObject({
      missing: 0,
      failures: 1,
      firstFailure: 'the judge does not grade it: HTTP 400 {"error":{"message":"filtered"}}',
      scores: { total: 50, rec: 0 },
    });
    expect(scoreTable(result)).toContain('1 failed and counts as wrong, the first because the judge does not grade it: HTTP 400');
  });

  test.each<[string, string]>([
    ['grades nothing', 'none of its replies could be read'],
    ['refuses all', 'the judge does not grade it: HTTP 400 {"error":{"message":"filtered"}}'],
  ])('has no scores by a judge that %s', async (what, why) => {
    const { baseUrl } = await serve(({ messages }, _, response) =>
      what === 'grades nothing' || messages[0]?.content === 'Say yes.' ? 'well' : refuse(response, 400, 'filtered'),
    );
    const result = await scoreAnswers('mm-vet', { answers, data: root, judge: judgeAt(baseUrl) });
    expect(result).toMatchObject({ scores: {}, unscored: `the judge graded no answer: ${why}` });
  });

  test('has an answer that the judge refused graded by another', async () => {
    const respondent: Respondent = {
      identity: {},
      async *responses(questions) {
        let index = 0;
        for await (const _ of questions) yield { index: index++, answer: 'a dog' };
      },
    };
    const out = join(root, 'refused');
    const refusing = await serve(({ messages }, _, response) => (messages[0]?.content === 'Say yes.' ? 'yes' : refuse(response, 400)));
    await evaluate(respondent, { tasks: ['mm-vet'], data: root, out, judge: judgeAt(refusing.baseUrl) });
    const { baseUrl } = await serve(() => '1.0');
    const samples = join(out, 'samples_mm-vet.jsonl');
    const { missing, failures, scores } = await scoreAnswers('mm-vet', { answers: samples, data: root, judge: judgeAt(baseUrl) });
    expect([missing, failures, scores['total']]).toEqual([0, undefined, 100]);
  });

  test('is not asked about any further once the judge is gone', async () => {
    const scored = Array.from(
      { length: 40 },
      (_, i): Scored => ({
        sample: { id: String(i), question: '', images: [], targets: [], category: '' },
        answer: 'x',
        parsed: 'x',
        score: 0,
        unparsed: true,
      }),
    );
    const asked = (sample: Sample): JudgeCall => ({ ...call, messages: [{ role: 'user', content: sample.id }] });
    const question: JudgeQuestion = {
      usual: '',
      attempts: 1,
      call: asked,
      verdict: (_, parsed) => ({ parsed, score: 1 }),
      giveUp: () => ({ parsed: '', score: 0 }),
    };
    const judged = (baseUrl: string) => judgeScored({ name: 'mine', judge: question }, scored, judgeAt(baseUrl, { parallel: 4 }));
    const gone = await serve((_, __, response) => (gone.calls.length < 3 ? undefined : refuse(response, 401)));
    await expect(judged(gone.baseUrl)).rejects.toThrow('HTTP 401');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(gone.calls.length).toBeLessThanOrEqual(4);
    // What the task's own scorer could not read, the judge did.
    const { baseUrl } = await serve(() => 'fine');
    expect((await judged(baseUrl))[0]).toEqual({ sample: scored[0]?.sample, answer: 'x', parsed: 'fine', score: 1 });
  });

  test('is graded by one: a reply that is no number is asked for again, warmer, and the judge is named in the result', async () => {
    const { baseUrl, calls } = await serve(({ messages, temperature }) => {
      if (messages[0]?.content === 'Say yes.') return 'yes';
      if (messages[0]?.content.includes('What is it? | a cat | a dog | ')) return temperature === 0 ? 'none' : '0.0';
      return '0.5';
    });
    const result = await scoreAnswers('mm-vet', { answers, data: root, judge: judgeAt(baseUrl) });
    expect(result.scores).toEqual({ total: 25, rec: 0, ocr: 50, math: 50, 'only math_ocr': 50, 'only rec': 0 });
    expect(result.judge).toMatchObject({ model: 'judge', served: ['judge-2026'] });
    const first = calls.find(
      ({ messages }) => messages[0]?.content.includes('x = -1 | ') && messages[0].content.endsWith('What is x? | -1 <AND> -5 | x = -1 | '),
    );
    expect(first).toMatchObject({ temperature: 0, max_tokens: 3 });
    expect(calls.filter(({ temperature }) => temperature === 0.5)).toHaveLength(1);
  });
});

test('LLaVA-Bench compares with the reference and reads two numbers of the first line', async () => {
  const folder = mkdtempSync(join(root, 'wild-'));
  const rows = (list: readonly object[]): string => list.map((row) => JSON.stringify(row)).join('\n');
  writeFileSync(
    join(folder, 'questions.jsonl'),
    rows([0, 1].map((i) => ({ question_id: i, image: '1.jpg', text: `Q${i}?`, category: i === 0 ? 'conv' : 'detail' }))),
  );
  writeFileSync(join(folder, 'context.jsonl'), rows([{ image: '1.jpg', caption: ['one', 'two'] }]));
  writeFileSync(join(folder, 'answers_gpt4.jsonl'), rows([0, 1].map((i) => ({ question_id: i, text: `R${i}` }))));
  writeFileSync(join(folder, 'answers.jsonl'), rows([0, 1].map((i) => ({ question_id: i, text: `A${i}` }))));
  const { baseUrl, calls } = await serve(({ messages }) => (messages.at(-1)?.content.includes('Q0?') ? '8 6\nbecause' : 'both are good'));
  const answers = join(folder, 'answers.jsonl');
  const result = await scoreAnswers('llava-bench', { answers, data: folder, judge: judgeAt(baseUrl) });
  const { scores, unparsed } = result;
  // (8 - 1) and (6 - 1) over 2: a reply that cannot be read counts as -1 and -1, as in LLaVA's own summary.
  expect(scores).toMatchObject({ all: 71.4, conv: 75, 'conv reference': 80, 'conv answer': 60, 'detail reference': -10 });
  expect(unparsed).toBe(1);
  expect(scoreTable(result)).toContain('1 reply of the judge could not be read.');
  const asked = calls.find(({ messages }) => messages.at(-1)?.content.includes('Q0?'));
  expect(asked?.messages[1]?.content).toMatch(
    /^\[Context\]\none\ntwo\n\n\[Question\]\nQ0\?\n\n\[Assistant 1\]\nR0\n\n\[End of Assistant 1\]\n\n\[Assistant 2\]\nA0\n\n\[End of Assistant 2\]\n\n\[System\]\nWe would/,
  );
  expect(asked).toMatchObject({ temperature: 0.2, max_tokens: 1024 });
});

test.each([
  ['8,6\nbecause', '8 6'],
  ['8 nan', undefined],
  ['inf 6', undefined],
  ['8 6 7', undefined],
])('LLaVA-Bench reads of %j: %s', (reply, parsed) => {
  const sample = { id: '0', question: '', images: [], targets: [], category: 'conv', context: '', reference: '' };
  expect(llavaBench.judge?.verdict(sample, reply)?.parsed).toBe(parsed);
});

test('LLaVA-Bench counts a missing answer as worth nothing, and the reference by the questions that were judged', () => {
  const sample = { question: '', images: [], targets: [], category: 'conv', context: '', reference: '' };
  const metrics = llavaBench.aggregate([
    { sample: { ...sample, id: '0' }, answer: 'a', parsed: '8 6', score: 0.6 },
    { sample: { ...sample, id: '1' }, error: 'no image', parsed: '', score: 0 },
  ]);
  expect(metrics.slice(0, 3).map(({ name, value }) => [name, value])).toEqual([
    ['all', 37.5],
    ['all reference', 80],
    ['all answer', 30],
  ]);
});

test('an evaluation is judged behind its questions, and its samples get the verdicts', async () => {
  const { model, processor } = tinyModel();
  const folder = mkdtempSync(join(root, 'run-'));
  mkdirSync(join(folder, 'images'));
  writeFileSync(join(folder, 'images/a.png'), await picture(1));
  const question = { imagename: 'a.png', question: 'what is this?', answer: 'red', capability: ['rec'] };
  writeFileSync(join(folder, 'mm-vet.json'), JSON.stringify({ v1_0: question, v1_1: { ...question, imagename: 'none.png' } }));
  const { baseUrl, calls } = await serve(({ messages }) => (messages[0]?.content === 'Say yes.' ? 'yes' : '0.8'));
  const out = join(folder, 'out');
  const task = { ...tasks['mm-vet'], maxNewTokens: 4 };
  const { tasks: results } = await evaluate(new ChatModel(model, processor), { tasks: [task], data: folder, out, judge: judgeAt(baseUrl) });
  // The question whose image is missing has no answer to judge.
  expect(results['mm-vet']).toMatchObject({ failures: 1, judge: { model: 'judge', served: ['judge-2026'] } });
  expect(results['mm-vet']?.metrics[0]).toMatchObject({ name: 'total', value: 40, count: 2 });
  expect((await readSamples(join(out, 'samples_mm-vet.jsonl'))).map(({ score, parsed }) => [score, parsed])).toEqual([
    [0.8, '0.8'],
    [0, ''],
  ]);
  expect(calls).toHaveLength(2);
  expect(Object.keys(JSON.parse(readFileSync(join(out, 'submission_mm-vet.json'), 'utf8')))).toEqual(['v1_0', 'v1_1']);
});

test('a judge that does not answer ends an evaluation before anything is asked', async () => {
  const { model, processor } = tinyModel();
  const events: string[] = [];
  mkdirSync(join(root, 'images'), { recursive: true });
  const run = evaluate(new ChatModel(model, processor), {
    tasks: ['mm-vet'],
    data: root,
    judge: judgeAt('http://127.0.0.1:9/v1', { tries: 1 }),
    log: ({ event }) => events.push(event),
  });
  await expect(run).rejects.toThrow('does not answer');
  expect(events).toEqual([]);
});
