import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { hubProgress } from '../../src/cli/hub.ts';
import { StatusLine } from '../../src/cli/quickstart/status-line.ts';
import { resolveModel } from '../../src/hub/resolve.ts';
import { onOneThread, picture, tinyCheckpoint } from '../generate/tiny-model.ts';
import { HubServer, sha256 } from '../hub/hub-server.ts';
import { start, tinyllava } from './run.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-cli-hub-'));
const hub = await HubServer.start();
const { folder: local, remove } = await tinyCheckpoint({ vision: 'siglip' });
const before = { ...process.env };
afterAll(async () => {
  process.env = before;
  await hub[Symbol.asyncDispose]();
  rmSync(root, { recursive: true });
  remove();
});

const commit = 'e'.repeat(40);
const files = Object.fromEntries(readdirSync(local).map((name) => [name, readFileSync(join(local, name))]));
hub.models['tiny/llava'] = { commits: { [commit]: files }, refs: { main: commit, v1: commit } };
hub.models['tiny/gated'] = { commits: { [commit]: files }, refs: { main: commit }, token: 'hf_good', gated: true };

let cache = '';
let count = 0;
beforeEach(() => {
  cache = join(root, `cache-${count++}`);
  process.env = { ...before, HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HOME: root, NO_PROXY: '127.0.0.1' };
  hub.taken();
});
const named = (text: string): string => text.replaceAll(hub.endpoint, 'HUB').replaceAll(cache, 'CACHE');

test('every verb that takes a model takes a hub id', async () => {
  const question = ['what is this ?', '--max-new-tokens', '4'];
  const { stdout: answer } = await tinyllava('ask', local, ...question);
  const first = await tinyllava('ask', 'tiny/llava', ...question);
  expect(first).toEqual({
    code: 0,
    stdout: answer,
    stderr: expect.stringMatching(/^tiny\/llava {2}fetched {2}\d files {2}0\.\d MB {2}\d+\.\d s\n$/),
  });
  // Nothing is fetched a second time, so nothing is said.
  expect(await tinyllava('ask', `tiny/llava@${commit}`, ...question)).toEqual({ code: 0, stdout: answer, stderr: '' });
  expect(await tinyllava('ask', 'tiny/llava@v1', ...question)).toEqual({ code: 0, stdout: answer, stderr: '' });

  const scores = join(root, 'logits.safetensors');
  expect((await tinyllava('logits', 'tiny/llava', '--prompt', 'a b', '--out', scores)).code).toBe(0);
  const found = JSON.parse((await tinyllava('inspect', 'tiny/llava', '--json')).stdout);
  expect(found).toEqual({ ...JSON.parse((await tinyllava('inspect', local, '--json')).stdout), path: 'tiny/llava' });
  const rows = join(root, 'rows.json');
  writeFileSync(
    rows,
    JSON.stringify([
      {
        id: '1',
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'gpt', value: 'b' },
        ],
      },
    ]),
  );
  expect((await tinyllava('inspect', rows, '--model', 'tiny/llava')).stdout).toContain('learned');

  // Counting tokens takes no weights.
  process.env['HF_HUB_CACHE'] = join(root, 'settings-alone');
  hub.taken();
  expect((await tinyllava('inspect', rows, '--model', 'tiny/llava')).stdout).toContain('learned');
  expect(hub.taken().filter((path) => /safetensors|\.bin/.test(path))).toEqual([]);
  process.env['HF_HUB_OFFLINE'] = '1';
  expect((await tinyllava('inspect', rows, '--model', 'tiny/llava')).stdout).toContain('learned');
  expect((await tinyllava('ask', 'tiny/llava', ...question)).stderr).toContain('model.safetensors');
});

test.each([false, true])(
  'inspect fetches no weights of a model, but headers, settings and tokenizer; ranges are ignored: %s',
  async (ignored) => {
    const name = 'model.safetensors';
    const whole = files[name] as Buffer;
    const header = 8 + Number(whole.readBigUInt64LE());
    // A header longer than what is fetched first.
    const padded = Buffer.concat([whole.subarray(8, header), Buffer.alloc(120_000, ' ')]);
    const content = Buffer.concat([Buffer.alloc(8), padded, whole.subarray(header)]);
    content.writeBigUInt64LE(BigInt(padded.length));
    hub.models['tiny/padded'] = { commits: { [commit]: { ...files, [name]: content } }, refs: { main: commit } };
    hub.ignoresRange = ignored;
    try {
      const { stdout, stderr } = await tinyllava('inspect', 'tiny/padded', '--json');
      expect(stderr).toMatch(/fetched {2}\d files/);
      expect(JSON.parse(stdout)).toEqual({ ...JSON.parse((await tinyllava('inspect', local, '--json')).stdout), path: 'tiny/padded' });
      const id = sha256(content).slice(0, 4);
      expect(hub.taken().filter((line) => line.includes(` content ${id}`))).toEqual([
        `GET content ${id} bytes=0-99999`,
        `GET content ${id} bytes=0-${8 + padded.length - 1}`,
      ]);
      const blobs = readdirSync(join(cache, 'models--tiny--padded/blobs'));
      expect(blobs).not.toContain(sha256(content));
      expect(blobs.length).toBeGreaterThan(2);
      const outlines = join(root, `outlines-${ignored}`);
      const folder = await resolveModel('tiny/padded', { outlines });
      expect([statSync(join(folder, name)).size, folder.startsWith(outlines)]).toEqual([content.length, true]);
      hub.taken();
      expect(await resolveModel('tiny/padded', { outlines })).toBe(folder);
      expect(hub.taken().filter((line) => line.includes('content'))).toEqual([]);
    } finally {
      hub.ignoresRange = false;
    }
    // What was looked at is not taken for the whole.
    expect((await tinyllava('ask', 'tiny/padded', 'what is this ?', '--max-new-tokens', '2')).code).toBe(0);
    expect(readFileSync(join(cache, 'models--tiny--padded/blobs', sha256(content))).equals(content)).toBe(true);
  },
);

test('recipes take hub ids for a model, a tower, a language model and a tokenizer, and --from one too', async () => {
  writeFileSync(join(root, 'red.png'), await picture(1));
  const conversations = [
    { from: 'human', value: '<image>\nwhat is this ?' },
    { from: 'gpt', value: 'red circle .' },
  ];
  writeFileSync(join(root, 'rows.json'), JSON.stringify([{ id: '1', image: 'red.png', conversations }]));
  const stage = {
    name: 'align',
    learns: { connector: 'full' },
    data: { conversations: 'rows.json' },
    optimizer: { learningRate: 1e-3 },
    template: 'tiny',
    batchSize: 1,
    steps: 1,
  };
  const recipes = {
    whole: { model: { from: 'tiny/llava' }, stages: [stage] },
    parts: {
      model: { vision: { from: 'tiny/llava' }, connector: { type: 'linear' }, language: { from: `tiny/llava@${commit}` } },
      processor: { tokenizer: { from: 'tiny/llava@v1' } },
      stages: [stage],
    },
  };
  for (const [name, recipe] of Object.entries(recipes)) writeFileSync(join(root, `${name}.yaml`), stringify(recipe));
  const parts = await tinyllava('train', join(root, 'parts.yaml'), '--data', root, '--out', join(root, 'parts'));
  expect(parts).toEqual({ code: 0, stdout: `${join(root, 'parts/align')}\n`, stderr: expect.stringContaining('tiny/llava  fetched') });
  expect((await tinyllava('train', join(root, 'whole.yaml'), '--data', root, '--dry-run')).code).toBe(0);
  expect(
    (await tinyllava('train', join(root, 'whole.yaml'), '--data', root, '--out', join(root, 'whole'), '--from', 'tiny/llava')).code,
  ).toBe(0);

  // A folder of that name, where the recipe's paths start, goes before the hub.
  mkdirSync(join(root, 'tiny'));
  cpSync(local, join(root, 'tiny/llava'), { recursive: true });
  hub.taken();
  expect((await tinyllava('train', join(root, 'whole.yaml'), '--data', root, '--dry-run')).code).toBe(0);
  expect(hub.taken()).toEqual([]);
});

test('what cannot be had is one message with a fix', async () => {
  const said = async (...argv: string[]): Promise<string> => {
    const { code, stdout, stderr } = await tinyllava(...argv);
    expect([code, stdout]).toEqual([1, '']);
    return named(stderr);
  };
  expect([
    await said('ask', 'tiny/lava', 'what?'),
    await said('inspect', 'tiny/lava'),
    await said('inspect', 'tiny/gated'),
    await said('chat', 'tiny/llava@v2'),
    await said('ask', '/nowhere/tiny', 'what?'),
    await said('ask', 'nowhere', 'what?'),
    await said('inspect', 'runs/recipe.yaml'),
  ]).toMatchInlineSnapshot(`
    [
      "error: tiny/lava: no such folder, and no such model on the hub (HUB)
      fix: check the spelling; for a private model, set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)
    ",
      "error: tiny/lava: no such folder, and no such model on the hub (HUB)
      fix: check the spelling; for a private model, set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)
    ",
      "error: tiny/gated: the hub gives this model only to those who accepted its licence
      fix: accept it at HUB/tiny/gated, then set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)
    ",
      "error: tiny/llava@v2: tiny/llava has no revision "v2" on the hub (HUB)
      fix: a revision is a branch, a tag or a whole commit hash; see HUB/tiny/llava/tree/main
    ",
      "error: /nowhere/tiny: no such folder
      fix: a model is a folder with config.json and *.safetensors
    ",
      "error: nowhere: no such folder
      fix: a model is a folder with config.json and *.safetensors
    ",
      "error: runs/recipe.yaml: no such file or folder
    ",
    ]
  `);
  process.env['HF_HUB_OFFLINE'] = '1';
  expect(await said('ask', 'tiny/llava', 'what?')).toMatchInlineSnapshot(`
    "error: tiny/llava: no such folder, tiny/llava is not in the cache (CACHE), and HF_HUB_OFFLINE forbids to ask the hub
      fix: check the spelling of the path, or fetch the model while there is a connection; HF_HOME says where the cache is
    "
  `);
});

test('Ctrl-C in the middle of a download ends the command, and the next goes on', async () => {
  hub.models['tiny/llava'] = {
    commits: { [commit]: { ...files, 'model.safetensors': Buffer.alloc(3_000_000, 7) } },
    refs: { main: commit },
  };
  hub.faults.push({ stallAfter: 500 }, { stallAfter: 500 }, { stallAfter: 500 });
  const { child, outcome } = start(['ask', 'tiny/llava', 'what is this ?']);
  await expect.poll(() => hub.requests.filter((line) => line.includes('content')).length, { timeout: 20_000 }).toBeGreaterThan(0);
  await new Promise((resolve) => setTimeout(resolve, 300));
  child.kill('SIGINT');
  const { code, stderr } = await outcome;
  expect([code, stderr]).toEqual([130, 'error: interrupted\n']);
  expect(readdirSync(join(cache, 'models--tiny--llava/blobs')).filter((name) => name.endsWith('.incomplete'))).not.toEqual([]);
}, 30_000);

test('a terminal sees one line that changes', () => {
  const lines: string[] = [];
  let now = 0;
  const screen = { isTTY: true, columns: 70, write: (text: string) => lines.push(text) };
  const log = hubProgress(new StatusLine(screen, () => ++now * 1000));
  log({ event: 'downloading', model: 'a/b', doneBytes: 0, totalBytes: 6e9, bytesPerSecond: 0 });
  log({ event: 'downloading', model: 'a/b', doneBytes: 1.5e9, totalBytes: 6e9, bytesPerSecond: 5e7 });
  log({ event: 'downloaded', model: 'a/b', files: 1, totalBytes: 6e9, seconds: 120 });
  log({ event: 'hub-unreachable', model: 'a/b', commit, reason: 'no route' });
  expect(lines.join('').split('\r\x1b[2K')).toEqual([
    '',
    'a/b  0.0 MB of 6.00 GB  0.0 MB/s',
    'a/b  1.50 GB of 6.00 GB  90 s left  50.0 MB/s',
    'a/b  fetched  1 file  6.00 GB  120.0 s\na/b: the hub cannot be asked (no route); taking eeeeeeee from the\n  cache\n',
  ]);
});
