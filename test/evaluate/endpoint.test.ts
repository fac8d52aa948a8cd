import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { evaluate } from '../../src/evaluate/evaluate.ts';
import { markdown } from '../../src/evaluate/report.ts';
import { Endpoint } from '../../src/evaluate/respondent/endpoint.ts';
import { readSamples } from '../../src/evaluate/samples-file.ts';
import { seedBenchLikelihood } from '../../src/evaluate/tasks/seed-bench.ts';
import { tinyllava } from '../cli/run.ts';
import { picture } from '../generate/tiny-model.ts';

interface Part {
  readonly type: string;
  readonly text?: string;
  readonly image_url?: { readonly url: string };
}

interface Asked {
  readonly model: string;
  readonly messages: readonly { readonly content: string | readonly Part[] }[];
  readonly temperature?: number;
  readonly max_tokens?: number;
  readonly max_completion_tokens?: number;
}

const root = mkdtempSync(join(tmpdir(), 'tinyllava-endpoint-'));
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});
afterAll(() => rmSync(root, { recursive: true }));

/** What a server says: a text, the message around one, or a status where it refuses. */
type Said = string | object | number;

/** A server that answers as `reply` says. */
async function serve(reply: (asked: Asked, request: IncomingMessage, response: ServerResponse) => Said | Promise<Said>) {
  const calls: Asked[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', async () => {
      const asked = JSON.parse(Buffer.concat(pieces).toString()) as Asked;
      calls.push(asked);
      const said = await reply(asked, request, response);
      if (typeof said === 'number') return response.writeHead(said).end(`{"error":"refused ${said}"}`);
      const message = typeof said === 'string' ? { content: said } : said;
      return response.end(JSON.stringify({ model: 'served', choices: [{ message }] }));
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, calls };
}

function partOf({ messages: [message] }: Asked, type: string): Part | undefined {
  const content = message?.content ?? '';
  return typeof content === 'string' ? { type: 'text', text: content } : content.find((part) => part.type === type);
}
const textOf = (asked: Asked): string => partOf(asked, 'text')?.text ?? '';
const imageOf = (asked: Asked): string => partOf(asked, 'image_url')?.image_url?.url ?? '';

const data = join(root, 'data');
beforeAll(async () => {
  mkdirSync(data);
  writeFileSync(join(data, 'a.png'), await picture(1));
  writeFileSync(
    join(data, 'b.tif'),
    await sharp(await picture(2))
      .tiff()
      .toBuffer(),
  );
  writeFileSync(join(data, 'broken.png'), (await picture(3)).subarray(0, 60));
  const images = ['a.png', 'b.tif', 'broken.png', 'none.png'];
  const rows = Array.from({ length: 20 }, (_, i) => ({ question_id: i, image: images[i % 4], text: `what is ${i}?`, answer: String(i) }));
  writeFileSync(join(data, 'questions.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
});

const endpoint = (baseUrl: string, more: { key?: string; tries?: number; timeoutMs?: number } = {}): Endpoint =>
  new Endpoint({ model: 'm', baseUrl, waitMs: 1, ...more });
/** The number that a question has. */
const number = (asked: Asked): string => /\d+/.exec(textOf(asked))?.[0] ?? 'yes';

describe('a model behind a server', () => {
  test('is sent images as data URLs, is tried again when it is busy, and is asked no more at a time than allowed', async () => {
    let [open, most, busy] = [0, 0, 0];
    const { baseUrl, calls } = await serve(async (asked, { headers }) => {
      expect(headers.authorization).toBe('Bearer secret');
      open += 1;
      most = Math.max(most, open);
      await wait(5);
      open -= 1;
      if (number(asked) === '4' && busy++ < 2) return 429;
      return number(asked);
    });
    const out = join(root, 'out');
    const { tasks, settings } = await evaluate(endpoint(baseUrl, { key: 'secret' }), { tasks: ['vqa'], data, out, batchSize: 3 });
    expect(settings).toEqual({ batchSize: 3, profile: 'official', model: 'm', baseUrl, served: 'served' });
    expect(tasks['vqa']).toMatchObject({ samples: 20, failures: 10 });
    expect(most).toBe(3);
    expect(busy).toBe(3);
    const samples = await readSamples(join(out, 'samples_vqa.jsonl'));
    expect(samples.map(({ score }) => score)).toEqual(Array.from({ length: 20 }, (_, i) => (i % 4 < 2 ? 1 : 0)));
    expect(samples[2]?.error).toContain('broken.png cannot be decoded');
    expect(samples[3]?.error).toContain('none.png does not exist');
    const asked = (text: string): Asked | undefined => calls.find((call) => textOf(call) === text);
    expect(asked('what is 0?')).toMatchObject({ model: 'm', temperature: 0, max_tokens: 128 });
    expect(imageOf(asked('what is 0?') as Asked)).toBe(`data:image/png;base64,${readFileSync(join(data, 'a.png'), 'base64')}`);
    // What servers do not know goes as PNG.
    const sent = imageOf(asked('what is 1?') as Asked);
    expect(sent).toMatch(/^data:image\/png;base64,/);
    expect((await sharp(Buffer.from(sent.slice(22), 'base64')).metadata()).format).toBe('png');
  });

  test('has a question that it refuses for a failure of that question', async () => {
    const { baseUrl } = await serve((asked) => (number(asked) === '8' ? 400 : number(asked)));
    const { tasks } = await evaluate(endpoint(baseUrl), { tasks: ['vqa'], data });
    expect(tasks['vqa']?.failures).toBe(11);
  });

  test.each<[string, () => Said | Promise<Said>, string]>([
    ['breaks on', () => 500, 'HTTP 500 {"error":"refused 500"}'],
    ['never answers', () => new Promise<never>(() => {}), 'no answer within 0.2 s'],
    [
      'answers with something else',
      () => ({ content: 8 }),
      'not a chat completion: {"model":"served","choices":[{"message":{"content":8}}]}',
    ],
  ])('has a question that it %s for a failure of that question, as long as it answers others', async (_, reply, reason) => {
    const { baseUrl, calls } = await serve((asked) => (number(asked) === '8' ? reply() : number(asked)));
    const out = join(root, 'silent');
    const model = endpoint(baseUrl, { tries: 2, timeoutMs: 200 });
    const { tasks } = await evaluate(model, { tasks: ['vqa'], data, out, batchSize: 1 });
    expect(tasks['vqa']?.failures).toBe(11);
    expect((await readSamples(join(out, 'samples_vqa.jsonl')))[8]?.error).toBe(reason);
    // Twice, and once more after the server has answered a word.
    expect(calls.filter((asked) => number(asked) === '8')).toHaveLength(3);
    rmSync(out, { recursive: true });
  });

  test('may have been away for a while, or too busy for anyone', async () => {
    let refused = 0;
    // Away for the tries of a question and the first word behind them.
    const away = await serve((asked) => {
      if ((refused === 0 && number(asked) !== '8') || refused === 4) return number(asked);
      refused += 1;
      return 503;
    });
    expect((await evaluate(endpoint(away.baseUrl, { tries: 3 }), { tasks: ['vqa'], data, batchSize: 1 })).tasks['vqa']?.failures).toBe(10);
    let asked = 0;
    // Away for the tries of a question, then flooded by all that was waiting.
    const back = await serve((one) => {
      if (number(one) === '8') asked += 1;
      return number(one) !== '8' || asked > 5 ? number(one) : asked > 3 ? 429 : 503;
    });
    expect((await evaluate(endpoint(back.baseUrl, { tries: 3 }), { tasks: ['vqa'], data, batchSize: 1 })).tasks['vqa']?.failures).toBe(10);
    const busy = await serve((asked) => (number(asked) === '8' ? 429 : number(asked)));
    await expect(evaluate(endpoint(busy.baseUrl, { tries: 2 }), { tasks: ['vqa'], data })).rejects.toThrow('HTTP 429');
  });

  test('may want its calls slower, as long as it answers some', async () => {
    const { baseUrl, calls } = await serve((asked) => (calls.length % 3 === 0 || number(asked) === 'yes' ? number(asked) : 429));
    const { tasks } = await evaluate(endpoint(baseUrl, { tries: 3 }), { tasks: ['vqa'], data, batchSize: 8 });
    expect(tasks['vqa']?.failures).toBe(10);
  });

  test('may keep many calls waiting, of which Node does not warn', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): void => void warnings.push(warning);
    process.on('warning', note);
    const { baseUrl, calls } = await serve(() => (calls.length > 12 ? 'yes' : 429));
    const questions = Array.from({ length: 12 }, () => ({ messages: [{ role: 'user', content: 'Is it?' }] as const, maxNewTokens: 4 }));
    const answers: unknown[] = [];
    const model = new Endpoint({ model: 'm', baseUrl, waitMs: 300 });
    for await (const response of model.responses(questions, { batchSize: 12, weigh: false })) answers.push(response);
    process.off('warning', note);
    expect([answers, warnings]).toEqual([Array(12).fill(expect.objectContaining({ answer: 'yes' })), []]);
  });

  test('may answer in parts, or think and say nothing', async () => {
    const forms: Record<string, object> = {
      8: {
        content: [
          { type: 'thinking', thinking: 'so' },
          { type: 'text', text: 'eig' },
          { type: 'text', text: 'ht' },
        ],
      },
      9: { reasoning_content: 'so' },
      12: { content: null },
    };
    const { baseUrl } = await serve((asked) => forms[number(asked)] ?? number(asked));
    const out = join(root, 'forms');
    const results = await evaluate(endpoint(baseUrl), { tasks: ['vqa'], data, out });
    expect(markdown(results)).toContain(' 2 answers are empty.');
    const samples = await readSamples(join(out, 'samples_vqa.jsonl'));
    expect([8, 9, 12, 13].map((i) => samples[i]?.answer)).toEqual(['eight', '', '', '13']);
  });

  test('is not gone on with when it answers under another name', async () => {
    const out = join(root, 'renamed');
    let name = 'model-1';
    const { baseUrl } = await serve((asked, _, response) => {
      response.end(JSON.stringify({ model: name, choices: [{ message: { content: number(asked) } }] }));
      return new Promise(() => {});
    });
    const run = () => evaluate(endpoint(baseUrl), { tasks: ['vqa'], data, out, resume: true });
    expect((await run()).settings['served']).toBe('model-1');
    name = 'model-2';
    await expect(run()).rejects.toThrow('settings.served was "model-1" and is "model-2"');
  });

  test('ends the run when it goes away, which can then go on', async () => {
    const out = join(root, 'away');
    let count = 0;
    const down = await serve(() => (count++ > 5 ? 503 : 'x'));
    const run = (resume: boolean) =>
      evaluate(new Endpoint({ model: 'm', baseUrl: down.baseUrl, waitMs: 1, tries: 2 }), {
        tasks: ['vqa'],
        data,
        out,
        batchSize: 1,
        resume,
      });
    await expect(run(false)).rejects.toThrow('HTTP 503 {"error":"refused 503"} (tried 2 times)');
    const kept = (await readSamples(join(out, 'samples_vqa.jsonl'))).filter(({ answer }) => answer !== undefined).length;
    expect(kept).toBe(4);
    count = -1000;
    const before = down.calls.length;
    expect((await run(true)).tasks['vqa']).toMatchObject({ samples: 20, failures: 10 });
    // One word and one about a picture to see that it is there, and what was not answered.
    expect(down.calls.length - before).toBe(2 + 10 - kept);
  });

  test('is asked for one word, and no more than twice, when all calls fail together', async () => {
    let up = true;
    const { baseUrl, calls } = await serve(async (asked) => {
      up &&= number(asked) === 'yes';
      if (up) return 'yes';
      await wait(50);
      return 503;
    });
    const run = evaluate(endpoint(baseUrl, { tries: 3 }), { tasks: ['vqa'], data, batchSize: 4 });
    await expect(run).rejects.toThrow('HTTP 503 {"error":"refused 503"} (tried 3 times)');
    // Beside the word and the picture before the questions.
    expect(calls.filter((asked) => number(asked) === 'yes')).toHaveLength(2 + 2);
  });

  test('is not waited for once the signal says so, before the first question either', async () => {
    const { baseUrl, calls } = await serve(() => new Promise<never>(() => {}));
    const wanted = new AbortController();
    const run = evaluate(endpoint(baseUrl), { tasks: ['vqa'], data, signal: wanted.signal });
    while (calls.length === 0) await wait(10);
    wanted.abort(new Error('no longer'));
    await expect(run).rejects.toThrow('no longer');
  });

  test('is reached through the proxy of the environment', async () => {
    const { baseUrl } = await serve(number);
    const reached: string[] = [];
    const proxy = createServer();
    proxy.on('connect', ({ url = '' }, socket, head) => {
      reached.push(url);
      const onward = connect(Number(url.split(':')[1]), '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        onward.write(head);
        onward.pipe(socket).pipe(onward);
      });
      onward.on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const before = process.env;
    process.env = { ...before, http_proxy: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, no_proxy: '' };
    try {
      await endpoint(baseUrl).check({ images: false, weigh: false });
    } finally {
      process.env = before;
      proxy.closeAllConnections();
      proxy.close();
    }
    expect(reached).toEqual([new URL(baseUrl).host]);
  });

  test('is tried before anything is asked', async () => {
    const out = join(root, 'tried');
    const refused = (status: number) =>
      serve(() => status).then(({ baseUrl }) => evaluate(endpoint(baseUrl), { tasks: ['vqa'], data, out }));
    await expect(refused(401)).rejects.toMatchObject({
      message: expect.stringMatching(/^m at http.* does not answer: HTTP 401 /),
      hint: expect.stringContaining('TINYLLAVA_API_KEY'),
    });
    await expect(refused(400)).rejects.toThrow(/^m at .* does not answer: HTTP 400/);
    const blind = await serve((asked) => (imageOf(asked) === '' ? 'yes' : 400));
    await expect(evaluate(endpoint(blind.baseUrl), { tasks: ['vqa'], data })).rejects.toThrow(/^m at .* does not take a picture: HTTP 400/);
    const { baseUrl } = await serve(() => 'yes');
    await expect(endpoint(baseUrl).check({ images: false, weigh: true })).rejects.toThrow(
      'm is an endpoint, which does not say how likely',
    );
    expect(seedBenchLikelihood.choices).toBeDefined();
  });

  test('that sends calls on to where they arrive empty is said to, with the address', async () => {
    for (const found of [404, 200]) {
      const server = createServer(({ url = '', method }, response) => {
        if (url.startsWith('/v1/')) response.writeHead(301, { location: `/moved${url}` }).end();
        else response.writeHead(method === 'GET' ? found : 500).end('a page');
      });
      servers.push(server);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      await expect(endpoint(`${host}/v1`).check({ images: false, weigh: false })).rejects.toThrow(
        `a page; it sends calls on to ${host}/moved/v1/chat/completions: name that address, up to /v1`,
      );
    }
  });

  test('is asked in the words that it takes', async () => {
    const { baseUrl, calls } = await serve((asked, _, response) => {
      const refuse = (message: string): Promise<never> => {
        // As gateways pass it on.
        response.writeHead(422).end(JSON.stringify({ error: { message: `${'upstream '.repeat(40)}${message}` } }));
        return new Promise<never>(() => {});
      };
      if (asked.max_tokens !== undefined) return refuse("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.");
      if (asked.temperature !== undefined) return refuse("Unsupported value: 'temperature' does not support 0 with this model.");
      return number(asked);
    });
    const { tasks, settings } = await evaluate(endpoint(baseUrl), { tasks: ['vqa'], data });
    expect(tasks['vqa']?.failures).toBe(10);
    expect(settings['temperature']).toBe('default');
    expect(calls.at(-1)).toMatchObject({ max_completion_tokens: 128 });
    expect(calls.at(-1)).not.toHaveProperty('temperature');
  });

  test('is named on the command line', async () => {
    const evalVqa = (...flags: string[]) => tinyllava('eval', ...flags, '--tasks', 'vqa', '--data', data);
    const { baseUrl } = await serve((asked) => number(asked));
    const { code, stdout } = await evalVqa('openai:m', '--base-url', baseUrl, '--timeout', '5', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout).tasks.vqa.metrics[0]).toMatchObject({ name: 'all', value: 0.5 });
    expect(await evalVqa(data, '--base-url', baseUrl)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('write the model as openai:MODEL'),
    });
    expect(await evalVqa('openai:m', '--base-url', baseUrl, '--processes', '4')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--processes is for models here, and openai:m is behind a server'),
    });
    expect(await evalVqa('openai:', '--base-url', baseUrl)).toMatchObject({ code: 2, stderr: expect.stringContaining('names no model') });
    for (const flag of ['--base-url', '--judge-url'])
      expect(await evalVqa('openai:m', flag, 'localhost:8000/v1')).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('expected an address such as http://localhost:8000/v1'),
      });
    expect(await evalVqa('openai:m', '--base-url', baseUrl, '--judge-url', baseUrl)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('add --judge MODEL'),
    });
  });
});
