import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { resolveModel } from '../../src/hub/index.ts';
import { HubServer, sha256 } from './hub-server.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-hub-processes-'));
const hub = await HubServer.start();
afterAll(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(root, { recursive: true });
});

const commit = 'c'.repeat(40);
const weights = Buffer.alloc(8_000_000, 'weights');
const files = {
  'config.json': Buffer.from('{}'),
  'tokenizer.json': Buffer.from('{"model":{}}'),
  'chat_template.jinja': Buffer.from('{{ messages }}'),
  'model.safetensors': weights,
};
hub.models['tiny/model'] = { commits: { [commit]: files }, refs: { main: commit } };

let cache = '';
let count = 0;
beforeEach(() => {
  cache = join(root, `cache-${count++}`);
  hub.taken();
});
const env = (): NodeJS.ProcessEnv => ({
  ...process.env,
  HF_ENDPOINT: hub.endpoint,
  HF_HUB_CACHE: cache,
  HOME: root,
  NO_PROXY: '127.0.0.1',
});

/** A process of its own that fetches the model and prints where it is. */
function fetcher(): { child: ChildProcess; path: Promise<string> } {
  const script = `import { resolveModel } from './src/hub/index.ts'; console.log(await resolveModel('tiny/model'));`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    env: env(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout?.on('data', (data) => {
    printed += data;
  });
  return { child, path: once(child, 'close').then(() => printed.trim()) };
}

const weightsAsked = (): string[] => hub.taken().filter((line) => line.startsWith(`GET content ${sha256(weights).slice(0, 4)}`));

test('processes that want one file at once fetch it once', async () => {
  const paths = await Promise.all([1, 2, 3].map(() => fetcher().path));
  expect(new Set(paths)).toEqual(new Set([join(cache, 'models--tiny--model/snapshots', commit)]));
  expect(readFileSync(join(paths[0] ?? '', 'model.safetensors')).equals(weights)).toBe(true);
  expect(weightsAsked()).toHaveLength(1);
}, 30_000);

test('a killed process leaves what another goes on with', async () => {
  hub.faults.push({ stallAfter: 5_000_000 });
  const { child } = fetcher();
  const blobs = join(cache, 'models--tiny--model/blobs');
  const partial = join(blobs, `${sha256(weights)}.incomplete`);
  await expect.poll(() => existsSync(partial) && readFileSync(partial).length, { timeout: 20_000 }).toBe(5_000_000);
  child.kill('SIGKILL');
  hub.taken();
  const folder = await resolveModel('tiny/model', { env: { ...env(), HF_HUB_DOWNLOAD_TIMEOUT: '1' } });
  expect(weightsAsked()).toEqual([expect.stringMatching(/ bytes=5000000-$/)]);
  expect(readFileSync(join(folder, 'model.safetensors')).equals(weights)).toBe(true);
  expect(readdirSync(blobs)).toHaveLength(4);
}, 30_000);

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) => command !== undefined && spawnSync(command, ['-c', 'import huggingface_hub']).status === 0,
);

async function runPython(script: string, more: NodeJS.ProcessEnv = {}): Promise<string> {
  const child = spawn(python as string, ['-c', script], { env: { ...env(), ...more }, stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.on('data', (data) => {
    printed += data;
  });
  await once(child, 'close');
  return printed.trim();
}

test.skipIf(python === undefined)(
  'Python finds what we fetched, and asks nobody',
  async () => {
    const folder = await resolveModel('tiny/model', { env: env() });
    hub.taken();
    const script = `
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
print(snapshot_download('tiny/model', local_files_only=True))
print(snapshot_download('tiny/model', revision='${commit}', local_files_only=True))
print(hf_hub_download('tiny/model', 'model.safetensors', local_files_only=True))
repo, = scan_cache_dir().repos
print(repo.repo_id, repo.nb_files, repo.size_on_disk, *repo.refs)`;
    const bytes = Object.values(files).reduce((sum, { length }) => sum + length, 0);
    expect((await runPython(script, { HF_HUB_OFFLINE: '1' })).split('\n')).toEqual([
      folder,
      folder,
      join(folder, 'model.safetensors'),
      `tiny/model 4 ${bytes} main`,
    ]);
    expect(hub.taken()).toEqual([]);
  },
  60_000,
);

test.skipIf(python === undefined)(
  'what Python fetched is not fetched again',
  async () => {
    const folder = await runPython(`from huggingface_hub import snapshot_download; print(snapshot_download('tiny/model'))`);
    hub.taken();
    expect(await resolveModel(`tiny/model@${commit}`, { env: env() })).toBe(folder);
    expect(await resolveModel('tiny/model', { env: { ...env(), HF_HUB_OFFLINE: '1' } })).toBe(folder);
    expect(hub.taken()).toEqual([]);
    expect(await resolveModel('tiny/model', { env: env() })).toBe(folder);
    expect(hub.taken()).toEqual(['GET /api/models/tiny/model/revision/main']);
  },
  60_000,
);
