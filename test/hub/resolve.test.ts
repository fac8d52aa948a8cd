import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { type HubUse, resolveModel } from '../../src/hub/index.ts';
import type { LogEvent } from '../../src/log.ts';
import { gitOid, HubServer, sha256 } from './hub-server.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-hub-'));
const hub = await HubServer.start();
const closed = await HubServer.start();
const nowhere = closed.endpoint;
await closed[Symbol.asyncDispose]();
afterAll(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(root, { recursive: true });
});

const [first, second] = ['1'.repeat(40), '2'.repeat(40)];
const bytes = (seed: number, length: number): Buffer => Buffer.from(Array.from({ length }, (_, i) => (i * seed + (i >> 8)) % 251));
const weights = bytes(7, 300_000);
const files = {
  'README.md': Buffer.from('# Tiny'),
  'config.json': Buffer.from('{"model_type":"llama"}'),
  'tokenizer.json': bytes(3, 5000),
  'tokenizer_config.json': Buffer.from('{}'),
  'preprocessor_config.json': Buffer.from('{"size":1}'),
  'model.safetensors': weights,
  'pytorch_model.bin': bytes(5, 4000),
  'tf_model.h5': bytes(9, 4000),
  'onnx/model.onnx': bytes(11, 4000),
};
const sharded = {
  'config.json': files['config.json'],
  'tokenizer.json': files['tokenizer.json'],
  'model.safetensors.index.json': Buffer.from(
    JSON.stringify({ weight_map: { a: 'model-1-of-2.safetensors', b: 'model-2-of-2.safetensors' } }),
  ),
  'model-1-of-2.safetensors': bytes(13, 2000),
  'model-2-of-2.safetensors': bytes(17, 2000),
  'consolidated.safetensors': bytes(19, 4000),
};

let cache = '';
let count = 0;
let events: LogEvent[] = [];
const env = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({ HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HOME: root, ...more });
const find = (name: string, more: NodeJS.ProcessEnv = {}, use?: HubUse): Promise<string> =>
  resolveModel(name, { env: env(more), use, log: (event) => events.push(event) });
const inside = (folder: string): string[] => readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
const failure = async (promise: Promise<unknown>): Promise<string> => {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(HubError);
  return `${error.message}\n${error.hint}`
    .replaceAll(hub.endpoint, 'HUB')
    .replaceAll(cache, 'CACHE')
    .replaceAll(nowhere, 'NOWHERE')
    .replaceAll(nowhere.slice(7), 'NOWHERE');
};
const contents = (): string[] => hub.taken().filter((line) => line.includes(' content '));

beforeEach(() => {
  cache = join(root, `cache-${count++}`);
  events = [];
  hub.taken();
  hub.authorizations.length = 0;
  hub.faults.length = 0;
  hub.down = undefined;
  hub.ignoresRange = false;
  for (const name of Object.keys(hub.models)) delete hub.models[name];
  hub.models['tiny/llava'] = {
    commits: { [first]: files, [second]: { ...files, 'config.json': Buffer.from('{"new":1}') } },
    refs: { main: first, v2: second },
  };
  hub.models['tiny/sharded'] = { commits: { [first]: sharded }, refs: { main: first } };
});

describe('what is fetched', () => {
  test('the files that are read, in the layout of the Python cache', async () => {
    const folder = await find('tiny/llava');
    expect(folder).toBe(join(cache, 'models--tiny--llava/snapshots', first));
    expect(inside(folder)).toEqual([
      'config.json',
      'model.safetensors',
      'preprocessor_config.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(readlinkSync(join(folder, 'model.safetensors'))).toBe(`../../blobs/${sha256(weights)}`);
    expect(readlinkSync(join(folder, 'config.json'))).toBe(`../../blobs/${gitOid(files['config.json'])}`);
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
    expect(readFileSync(join(cache, 'models--tiny--llava/refs/main'), 'utf8')).toBe(first);
    expect(inside(join(cache, 'models--tiny--llava/blobs'))).toHaveLength(5);
  });

  test('for a tower, a language model and a tokenizer only what each needs', async () => {
    expect(inside(await find('tiny/llava', {}, 'vision'))).toEqual(['config.json', 'model.safetensors', 'preprocessor_config.json']);
    cache += '-2';
    expect(inside(await find('tiny/llava', {}, 'language'))).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    cache += '-3';
    expect(inside(await find('tiny/llava', {}, 'tokenizer'))).toEqual(['tokenizer.json', 'tokenizer_config.json']);
  });

  test('shards as the index names them', async () => {
    expect(inside(await find('tiny/sharded'))).toEqual([
      'config.json',
      'model-1-of-2.safetensors',
      'model-2-of-2.safetensors',
      'model.safetensors.index.json',
      'tokenizer.json',
    ]);
  });

  test('.bin where there are no safetensors, and the three folders of Factory', async () => {
    const { 'model.safetensors': _, ...rest } = files;
    hub.models['tiny/bin'] = { commits: { [first]: rest }, refs: { main: first } };
    expect(inside(await find('tiny/bin'))).toContain('pytorch_model.bin');
    const parts = Object.fromEntries(
      ['connector', 'language_model', 'vision_tower'].map((part, i) => [`${part}/pytorch_model.bin`, bytes(i + 2, 2000)]),
    );
    hub.models['tiny/parts'] = { commits: { [first]: { 'config.json': files['config.json'], ...parts } }, refs: { main: first } };
    expect(inside(await find('tiny/parts'))).toEqual(expect.arrayContaining(Object.keys(parts)));
  });

  test('a GGUF file by its name', async () => {
    hub.models['tiny/gguf'] = { commits: { [first]: { 'a.gguf': weights, 'q/b.gguf': bytes(3, 2000) } }, refs: { main: first } };
    const path = await find('tiny/gguf/a.gguf');
    expect(path).toBe(join(cache, 'models--tiny--gguf/snapshots', first, 'a.gguf'));
    expect(readFileSync(path).equals(weights)).toBe(true);
    expect(await find(`tiny/gguf/q/b.gguf@${first}`)).toBe(join(cache, 'models--tiny--gguf/snapshots', first, 'q/b.gguf'));
    expect(readlinkSync(join(cache, 'models--tiny--gguf/snapshots', first, 'q/b.gguf'))).toBe(`../../../blobs/${sha256(bytes(3, 2000))}`);
    expect(await failure(find('tiny/gguf/c.gguf'))).toBe(
      'tiny/gguf/c.gguf: tiny/gguf has no file c.gguf\nits GGUF files are tiny/gguf/a.gguf, tiny/gguf/q/b.gguf',
    );
    expect(await failure(find('tiny/gguf'))).toBe(
      'tiny/gguf: tiny/gguf has no weights that can be read: no model.safetensors and no pytorch_model.bin, in shards or whole\nits GGUF files are tiny/gguf/a.gguf, tiny/gguf/q/b.gguf',
    );
  });

  test('nothing for a path that exists', async () => {
    mkdirSync(join(root, 'work/tiny/llava'), { recursive: true });
    expect(await resolveModel('tiny/llava', { root: join(root, 'work'), env: env() })).toBe(join(root, 'work/tiny/llava'));
    expect(await resolveModel(root, { env: env() })).toBe(root);
    expect(await resolveModel('/nowhere/at/all', { env: env() })).toBe('/nowhere/at/all');
    expect(hub.taken()).toEqual([]);
  });

  test('names that lead out of the cache are not', async () => {
    const index = Buffer.from(JSON.stringify({ weight_map: { a: '../../../../evil', b: 'ok.safetensors' } }));
    hub.models['tiny/evil'] = {
      commits: {
        [first]: {
          'config.json': files['config.json'],
          'model.safetensors.index.json': index,
          '../../../../evil': weights,
          'ok.safetensors': weights,
        },
      },
      refs: { main: first },
    };
    await find('tiny/evil');
    expect(inside(root).filter((name) => name.endsWith('evil'))).toEqual([expect.stringContaining('models--tiny--evil')]);
  });
});

describe('the cache', () => {
  test('costs one request for a branch, and none for a commit', async () => {
    const folder = await find('tiny/llava');
    hub.taken();
    expect(await find('tiny/llava')).toBe(folder);
    expect(hub.taken()).toEqual(['GET /api/models/tiny/llava/revision/main']);
    expect(await find(`tiny/llava@${first}`)).toBe(folder);
    expect(hub.taken()).toEqual([]);
  });

  test('shares contents between revisions', async () => {
    await find('tiny/llava');
    hub.taken();
    const folder = await find('tiny/llava@v2');
    expect(contents()).toEqual([]);
    expect(folder).toBe(join(cache, 'models--tiny--llava/snapshots', second));
    expect(readFileSync(join(folder, 'config.json'), 'utf8')).toBe('{"new":1}');
  });

  test('is all there is offline', async () => {
    const folder = await find('tiny/llava');
    hub.taken();
    expect(await find('tiny/llava', { HF_HUB_OFFLINE: '1' })).toBe(folder);
    expect(await find('tiny/llava', { TRANSFORMERS_OFFLINE: 'yes' })).toBe(folder);
    rmSync(join(folder, 'model.safetensors'));
    expect([
      await failure(find('tiny/other', { HF_HUB_OFFLINE: 'true' })),
      await failure(find('tiny/llava', { HF_HUB_OFFLINE: 'ON' })),
    ]).toMatchInlineSnapshot(`
      [
        "tiny/other: no such folder, tiny/other is not in the cache (CACHE), and HF_HUB_OFFLINE forbids to ask the hub
      check the spelling of the path, or fetch the model while there is a connection; HF_HOME says where the cache is",
        "tiny/llava: no such folder, the cache lacks model.safetensors of tiny/llava (CACHE), and HF_HUB_OFFLINE forbids to ask the hub
      check the spelling of the path, or fetch the model while there is a connection; HF_HOME says where the cache is",
      ]
    `);
    expect(hub.taken()).toEqual([]);
  });

  test('does where the hub cannot be asked, with a word', async () => {
    const folder = await find('tiny/llava');
    events = [];
    hub.down = 503;
    expect(await find('tiny/llava')).toBe(folder);
    expect(await find('tiny/llava', { HF_ENDPOINT: nowhere })).toBe(folder);
    expect(events).toEqual([
      { event: 'hub-unreachable', model: 'tiny/llava', commit: first, reason: 'the hub answers 503' },
      { event: 'hub-unreachable', model: 'tiny/llava', commit: first, reason: `connect ECONNREFUSED ${nowhere.slice(7)}` },
    ]);
    expect(await failure(find('tiny/other', { HF_ENDPOINT: nowhere }))).toMatchInlineSnapshot(`
      "tiny/other: no such folder, tiny/other is not in the cache (CACHE), and the hub (NOWHERE) cannot be reached: connect ECONNREFUSED NOWHERE
      check the spelling of the path, or fetch the model while there is a connection; HF_HOME says where the cache is"
    `);
  });

  test('lies where the environment says', async () => {
    const at = async (more: NodeJS.ProcessEnv): Promise<string> =>
      resolveModel('tiny/sharded', { env: { HF_ENDPOINT: hub.endpoint, HOME: cache, ...more } });
    const end = `models--tiny--sharded/snapshots/${first}`;
    expect(await at({})).toBe(join(cache, '.cache/huggingface/hub', end));
    expect(await at({ XDG_CACHE_HOME: join(cache, 'x') })).toBe(join(cache, 'x/huggingface/hub', end));
    expect(await at({ XDG_CACHE_HOME: join(cache, 'x'), HF_HOME: '~/h' })).toBe(join(cache, 'h/hub', end));
    expect(await at({ HF_HOME: '~/h', HF_HUB_CACHE: join(cache, 'c') })).toBe(join(cache, 'c', end));
  });
});

describe('a broken download', () => {
  const partials = (): string[] => inside(cache).filter((name) => name.endsWith('.incomplete'));

  test('goes on where it was cut, in the same run', async () => {
    hub.faults.push({ cutAfter: 100_000 }, { cutAfter: 50_000 }, { status: 502 });
    const folder = await find('tiny/llava', {}, 'vision');
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
    const asked = contents().map((line) => Number(/bytes=(\d+)/.exec(line)?.[1] ?? 0));
    expect(asked).toHaveLength(4);
    expect(asked).toEqual([0, asked[1], asked[2], asked[2]]);
    expect(asked[1]).toBeGreaterThan(0);
    expect(asked[2]).toBeGreaterThan(asked[1] as number);
    expect(partials()).toEqual([]);
  });

  test('gives up when nothing comes, and the next run goes on', async () => {
    hub.faults.push({ cutAfter: 100_000 }, ...Array.from({ length: 4 }, () => ({ status: 500 })));
    expect(await failure(find('tiny/llava', {}, 'vision'))).toMatchInlineSnapshot(`
      "tiny/llava: fetching model.safetensors failed 5 times in a row: the hub answers 500
      run the command again: what came so far is kept and gone on with"
    `);
    expect(partials()).toHaveLength(1);
    expect(statSync(join(cache, partials()[0] ?? '')).size).toBeGreaterThan(0);
    hub.taken();
    const folder = await find('tiny/llava', {}, 'vision');
    expect(contents()).toEqual([expect.stringMatching(/ bytes=\d+-$/)]);
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
  }, 20_000);

  test('is one of a silent connection too', async () => {
    hub.faults.push({ stallAfter: 100_000 });
    const folder = await find('tiny/llava', { HF_HUB_DOWNLOAD_TIMEOUT: '0.3' }, 'vision');
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
    expect(contents()).toHaveLength(2);
  });

  test('goes on behind what a killed process left, unless that is damaged', async () => {
    const blobs = join(cache, 'models--tiny--llava/blobs');
    mkdirSync(blobs, { recursive: true });
    const partial = join(blobs, `${sha256(weights)}.incomplete`);
    writeFileSync(partial, weights.subarray(0, 200_000));
    await find('tiny/llava', { HF_HUB_DOWNLOAD_TIMEOUT: '0.3' }, 'vision');
    expect(contents()).toEqual([expect.stringMatching(/ bytes=200000-$/)]);

    rmSync(join(blobs, sha256(weights)));
    writeFileSync(partial, Buffer.alloc(200_000));
    utimesSync(partial, 0, 0);
    const folder = await find('tiny/llava', {}, 'vision');
    expect(contents().map((line) => line.includes('bytes='))).toEqual([true, false]);
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('begins anew where the server knows no ranges', async () => {
    hub.ignoresRange = true;
    hub.faults.push({ cutAfter: 100_000 });
    const folder = await find('tiny/llava', {}, 'vision');
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('never puts damaged bytes in place', async () => {
    hub.faults.push({ damaged: true });
    const folder = await find('tiny/llava', {}, 'vision');
    expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
    cache += '-2';
    hub.faults.push({ damaged: true }, { damaged: true });
    const message = await failure(find('tiny/llava', {}, 'vision'));
    expect(message).toMatch(
      /^tiny\/llava: model\.safetensors came damaged: expected 300000 bytes, checksum [0-9a-f]{64}; got 300000 bytes, checksum [0-9a-f]{64}\ntry again/,
    );
    expect(inside(cache).filter((name) => name.includes(sha256(weights)))).toEqual([]);
  });

  test('that is aborted leaves what came to the next', async () => {
    hub.faults.push({ stallAfter: 100_000 });
    const controller = new AbortController();
    const reason = new Error('enough');
    const download = resolveModel('tiny/llava', { env: env(), use: 'vision', signal: controller.signal });
    setTimeout(() => controller.abort(reason), 300);
    await expect(download).rejects.toBe(reason);
    expect(partials()).toHaveLength(1);
    hub.taken();
    await find('tiny/llava', {}, 'vision');
    expect(contents()).toEqual([expect.stringMatching(/ bytes=\d+-$/)]);
  });

  test('reports what is done, and the end', async () => {
    await find('tiny/llava');
    const total = Object.entries(files).reduce((sum, [name, { length }]) => sum + (/^(config|token|pre|model)/.test(name) ? length : 0), 0);
    expect(events.at(-1)).toEqual({ event: 'downloaded', model: 'tiny/llava', files: 5, totalBytes: total, seconds: expect.any(Number) });
    expect(events[0]).toEqual({
      event: 'downloading',
      model: 'tiny/llava',
      doneBytes: expect.any(Number),
      totalBytes: total,
      bytesPerSecond: expect.any(Number),
    });
  });
});

test('a proxy of the environment is used, unless it says not to', async () => {
  const asked: string[] = [];
  const proxy = createServer();
  proxy.on('connect', ({ url = '' }, socket, head) => {
    asked.push(url);
    const [host, port] = url.split(':');
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  const HTTP_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const folder = await find('tiny/llava', { HTTP_PROXY });
  expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
  expect(asked).toContain(hub.endpoint.slice(7));
  cache += '-2';
  asked.length = 0;
  await find('tiny/llava', { HTTP_PROXY, NO_PROXY: '127.0.0.1' });
  expect(asked).toEqual([]);
  proxy.closeAllConnections();
  proxy.close();
});

describe('refusals', () => {
  test('say what is wrong and how to mend it', async () => {
    hub.models['tiny/gated'] = { commits: { [first]: files }, refs: { main: first }, token: 'hf_good', gated: true };
    hub.models['tiny/private'] = { commits: { [first]: files }, refs: { main: first }, token: 'hf_good' };
    const bad = { HF_TOKEN: 'hf_bad' };
    expect([
      await failure(find('tiny/nothing')),
      await failure(find('tiny/nothing', bad)),
      await failure(find('tiny/llava@v9')),
      await failure(find('tiny/gated')),
      await failure(find('tiny/gated', bad)),
      await failure(find('tiny/private', bad)),
    ]).toMatchInlineSnapshot(`
      [
        "tiny/nothing: no such folder, and no such model on the hub (HUB)
      check the spelling; for a private model, set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)",
        "tiny/nothing: no such folder, and no such model on the hub (HUB)
      check the spelling; a private model needs a token (HF_TOKEN) that may read it",
        "tiny/llava@v9: tiny/llava has no revision "v9" on the hub (HUB)
      a revision is a branch, a tag or a whole commit hash; see HUB/tiny/llava/tree/main",
        "tiny/gated: the hub gives this model only to those who accepted its licence
      accept it at HUB/tiny/gated, then set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)",
        "tiny/gated: the hub gives this model only to those who accepted its licence
      accept it at HUB/tiny/gated, then let HF_TOKEN be a token of the account that did, with the right to read gated models",
        "tiny/private: the hub (HUB) does not accept the token: 401 Invalid credentials in Authorization header
      HF_TOKEN, or the file that \`hf auth login\` wrote, must hold a valid token that may read tiny/private",
      ]
    `);
    hub.down = 500;
    expect(await failure(find('tiny/llava'))).toMatch('and the hub (HUB) cannot be reached: the hub answers 500');
  });

  test('end with the right token, from HF_TOKEN or its file, which the store of contents never sees', async () => {
    hub.models['tiny/gated'] = { commits: { [first]: files }, refs: { main: first }, token: 'hf_good', gated: true };
    await find('tiny/gated', { HF_TOKEN: 'hf_good' });
    expect(new Set(hub.authorizations)).toEqual(new Set(['Bearer hf_good', undefined]));
    cache += '-2';
    mkdirSync(join(root, 'home'), { recursive: true });
    writeFileSync(join(root, 'home/token'), 'hf_good\n');
    await find('tiny/gated', { HF_HOME: join(root, 'home') });
  });

  test('name a cache that cannot be written', async () => {
    writeFileSync(join(root, 'plain-file'), '');
    expect(await failure(find('tiny/llava', { HF_HUB_CACHE: join(root, 'plain-file') }))).toMatch(
      /^tiny\/llava: the cache \(.*plain-file\) cannot be written: ENOTDIR/,
    );
  });

  test('name an endpoint that is no hub', async () => {
    expect(await failure(find('tiny/llava', { HF_ENDPOINT: 'nonsense' }))).toBe(
      'HF_ENDPOINT is "nonsense", which is no address of a hub\nleave it unset, or set it to https://host',
    );
    const portal = createServer((_, response) => response.end('<html>log in first</html>'));
    await once(portal.listen(0, '127.0.0.1'), 'listening');
    const address = `http://127.0.0.1:${(portal.address() as AddressInfo).port}`;
    expect(await failure(find('tiny/llava', { HF_ENDPOINT: address }))).toMatch(
      /^tiny\/llava: http.* does not answer as a hub does: .*\ncheck HF_ENDPOINT/,
    );
    portal.close();
  });
});
