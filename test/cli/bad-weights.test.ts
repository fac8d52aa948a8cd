import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { full } from '../../src/tensor/create.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { onOneThread, tinyCheckpoint } from '../generate/tiny-model.ts';
import { reference } from '../model/reference.ts';
import { tinyllava } from './run.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-bad-'));
const { folder: good, remove } = await tinyCheckpoint({ vision: 'siglip' });
const sharded = join(root, 'good');
cpSync(good, sharded, { recursive: true });
await saveCheckpoint(sharded, (await loadCheckpoint(good)).model, {}, { maxShardBytes: 20_000 });
for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja', 'preprocessor_config.json'])
  cpSync(join(good, name), join(sharded, name));
afterAll(() => {
  rmSync(root, { recursive: true });
  remove();
});

const indexName = 'model.safetensors.index.json';
let count = 0;

/** What `ask` and `inspect` say, each the same one message, of a copy of a model that `break_` broke. */
async function said(from: string, break_: (folder: string) => void): Promise<string> {
  const folder = join(root, `bad-${count++}`);
  cpSync(from, folder, { recursive: true });
  break_(folder);
  const asked = await tinyllava('ask', folder, 'what?');
  expect([asked.code, asked.stdout]).toEqual([1, '']);
  expect(await tinyllava('inspect', folder)).toEqual(asked);
  return asked.stderr.replaceAll(folder, 'MODEL');
}

function editIndex(folder: string, edit: (map: Record<string, string>) => void): void {
  const path = join(folder, indexName);
  const index = JSON.parse(readFileSync(path, 'utf8')) as { weight_map: Record<string, string> };
  edit(index.weight_map);
  writeFileSync(path, JSON.stringify(index));
}

function editConfig(folder: string, edit: (config: Record<string, Record<string, unknown>>) => void): void {
  const path = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8'));
  edit(config);
  writeFileSync(path, JSON.stringify(config));
}

function editWeights(path: string, edit: (rows: Map<string, Tensor>) => void): void {
  const file = openSafetensors(path);
  const rows = new Map(file.names.map((name) => [name, file.tensor(name)]));
  edit(rows);
  writeSafetensors(path, rows);
}

test('the model that the others are copies of is sound', async () => {
  expect((await tinyllava('ask', sharded, 'what?', '--max-new-tokens', '2')).code).toBe(0);
  expect((await tinyllava('inspect', sharded)).code).toBe(0);
});

test('shards and their index', async () => {
  const files = [
    ...new Set(Object.values(JSON.parse(readFileSync(join(sharded, indexName), 'utf8')).weight_map as Record<string, string>)),
  ].sort();
  const [first = '', second = ''] = files;
  expect(files.length).toBeGreaterThan(2);
  expect([
    await said(sharded, (folder) => truncateSync(join(folder, second), 5000)),
    await said(sharded, (folder) => rmSync(join(folder, second))),
    await said(sharded, (folder) =>
      editIndex(folder, (map) => {
        const name = Object.keys(map).find((key) => map[key] === second) ?? '';
        map[name] = first;
      }),
    ),
    await said(sharded, (folder) =>
      editWeights(join(folder, second), (rows) => rows.set(openSafetensors(join(folder, first)).names[0] ?? '', full([2], 1))),
    ),
    await said(sharded, (folder) => writeFileSync(join(folder, indexName), '{"weight_map": 3}')),
  ]).toMatchInlineSnapshot(`
    [
      "error: MODEL/model-00002-of-00006.safetensors: cut short: tensor "model.language_model.embed_tokens.weight" ends at byte 6272, the file at 5000
      fix: the file is damaged or not a safetensors file; fetch or save it again
    ",
      "error: MODEL/model.safetensors.index.json: names model-00002-of-00006.safetensors, which is not there
      fix: fetch the index and all its files again, from one revision
    ",
      "error: MODEL/model.safetensors.index.json: says that model-00001-of-00006.safetensors holds "model.language_model.embed_tokens.weight", which it does not
      fix: fetch the index and all its files again, from one revision
    ",
      "error: MODEL/model.safetensors.index.json: both model-00001-of-00006.safetensors and model-00002-of-00006.safetensors hold "model.vision_tower.vision_model.embeddings.patch_embedding.bias"
      fix: fetch the index and all its files again, from one revision
    ",
      "error: MODEL/model.safetensors.index.json: not an index of weights
      fix: fetch the index and all its files again, from one revision
    ",
    ]
  `);
});

test('keys and shapes', async () => {
  const path = 'model.safetensors';
  expect([
    await said(good, (folder) => editWeights(join(folder, path), (rows) => rows.delete('model.language_model.norm.weight'))),
    await said(good, (folder) => editWeights(join(folder, path), (rows) => rows.set('model.language_model.extra', full([3], 1)))),
    await said(good, (folder) =>
      editConfig(folder, (config) => {
        Object.assign(config['text_config'] ?? {}, { intermediate_size: 40 });
      }),
    ),
    await said(good, (folder) => truncateSync(join(folder, path), 1000)),
    await said(good, (folder) => rmSync(join(folder, path))),
  ]).toMatchInlineSnapshot(`
    [
      "error: MODEL/model.safetensors: does not fit TinyLlava: 1 missing, 0 unexpected, 0 mis-shaped
      missing model.language_model.norm.weight [32]
      fix: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads
    ",
      "error: MODEL/model.safetensors: does not fit TinyLlava: 0 missing, 1 unexpected, 0 mis-shaped
      unexpected model.language_model.extra [3]
      fix: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads
    ",
      "error: MODEL/model.safetensors: does not fit TinyLlava: 0 missing, 0 unexpected, 6 mis-shaped
      mis-shaped model.language_model.layers.0.mlp.gate_proj.weight: expected [40, 32], got [48, 32]
      mis-shaped model.language_model.layers.0.mlp.up_proj.weight: expected [40, 32], got [48, 32]
      mis-shaped model.language_model.layers.0.mlp.down_proj.weight: expected [32, 40], got [32, 48]
      mis-shaped model.language_model.layers.1.mlp.gate_proj.weight: expected [40, 32], got [48, 32]
      mis-shaped model.language_model.layers.1.mlp.up_proj.weight: expected [40, 32], got [48, 32]
      mis-shaped model.language_model.layers.1.mlp.down_proj.weight: expected [32, 40], got [32, 48]
      fix: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads
    ",
      "error: MODEL/model.safetensors: cut short: the header needs 6792 bytes, the file has 992 after its length
      fix: the file is damaged or not a safetensors file; fetch or save it again
    ",
      "error: MODEL: no weights: none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json
      fix: fetch the weights of the model, or save it again
    ",
    ]
  `);
});

test('an architecture that is not known', async () => {
  const unknown = (section: string, type: string) => (folder: string) =>
    editConfig(folder, (config) => {
      Object.assign(config[section] ?? {}, { model_type: type });
    });
  expect(await said(good, unknown('text_config', 'lama'))).toMatch(
    /^error: MODEL\/config\.json: unknown language model "lama"\n {2}fix: did you mean "llama"\? known: llama, .*openelm.*\n$/,
  );
  expect(await said(good, unknown('vision_config', 'resnet'))).toMatch(
    /^error: MODEL\/config\.json: unknown vision tower "resnet"\n {2}fix: known: .*siglip_vision_model.*\n$/,
  );
});

test('a pickle with code in it', async () => {
  const infect = (folder: string): void => {
    const path = join(folder, 'pytorch_model.bin');
    const bytes = readFileSync(path);
    bytes.write('posix.system', bytes.indexOf('torch._utils'));
    writeFileSync(path, bytes);
  };
  expect(await said(reference('dialect-factory-qformer').folder, infect)).toMatchInlineSnapshot(`
    "error: MODEL/pytorch_model.bin: uses posix.system._rebuild_tensor_v2, which tensors do not need
      fix: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors
    "
  `);
});
