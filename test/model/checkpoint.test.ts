import fs, { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { TinyLlavaError } from '../../src/errors.ts';
import { type Checkpoint, loadCheckpoint, loadLanguageModel, loadVisionTower, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { createTinyLlava } from '../../src/model/tinyllava.ts';
import { full } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { writeSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { openWeights } from '../../src/tensor/weight-files.ts';
import '../matchers.ts';
import { reference } from './reference.ts';

const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-checkpoint-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const weightsIn = (folder: string): [string, Tensor][] => {
  const weights = openWeights(folder);
  return weights.names.map((name) => [name, weights.tensor(name)]);
};

/** A copy of a reference whose keys `rename` gives (undefined drops one), with changes to its config. */
function respelled(name: string, label: string, rename: (key: string) => string | undefined, config: Record<string, unknown> = {}): string {
  const folder = join(scratch, label);
  const source = join(import.meta.dirname, '../reference', name);
  mkdirSync(folder);
  const json = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8')) as Record<string, unknown>;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...json, ...config }));
  const renamed = weightsIn(source).flatMap(([key, tensor]): [string, Tensor][] => {
    const spelling = rename(key);
    return spelling === undefined ? [] : [[spelling, tensor]];
  });
  writeSafetensors(join(folder, 'model.safetensors'), renamed);
  return folder;
}

/** The message of the error that a promise rejects with, its folder left out, and the hint. */
async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (cause: unknown) => cause as Error,
  );
  const hint = error instanceof TinyLlavaError && error.hint ? `\nhint: ${error.hint}` : '';
  return `${error.name}: ${error.message}${hint}`.replaceAll(`${scratch}/`, '');
}

const inMemory = (key: string): string =>
  key.startsWith('language_model.lm_head')
    ? key.slice('language_model.'.length)
    : `model.${key.replace('language_model.model.', 'language_model.')}`;
const withLevel = (key: string): string => key.replace('vision_tower.', 'vision_tower.vision_model.');

test.each([
  ['as transformers 5 writes it', (key: string) => key],
  ['as transformers 4 writes it', withLevel],
  ['as transformers 5 names it in memory', inMemory],
  ['as transformers 4.52 names it in memory', (key: string) => withLevel(inMemory(key))],
])('a LLaVA spelled %s loads', async (label, rename) => {
  const { expected, ids, lengths } = reference('llava-clip');
  const { model } = await loadCheckpoint(respelled('llava-clip', label, rename));
  const hidden = model.hidden({ ids: ids(), lengths: lengths(), pixels: expected.tensor('pixel_values') });
  expect(model.logits(hidden)).toMatchTensor(expected.tensor('logits'));
});

test.each(['llava-clip', 'llava-clip-two-layers', 'llava-siglip', 'llama-mqa', 'llama-tied-biases', 'llama-linear-rope'])(
  '%s goes out and comes back the same, under the keys of transformers',
  async (name) => {
    const { folder } = reference(name);
    const { model, config } = await loadCheckpoint(folder);
    const target = join(scratch, `${name}-saved`);
    await saveCheckpoint(target, model, { 'tokenizer.json': '{}', 'generation_config.json': Buffer.from('{"a": 1}') });
    expect(readdirSync(target).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json']);
    const back = await loadCheckpoint(target);
    expect(back.config).toEqual(config);
    expect(
      weightsIn(target)
        .map(([key]) => key)
        .sort(),
    ).toEqual(
      weightsIn(folder)
        .map(([key]) => (name.startsWith('llava') ? withLevel(inMemory(key)) : key))
        .sort(),
    );
    const saved = new Map(back.model.namedParameters());
    for (const [key, tensor] of model.namedParameters()) expect(saved.get(key), key).toMatchTensor(tensor, { atol: 0 });
  },
);

test('the config of a saved LLaVA is that of transformers, field by field', async () => {
  const { folder } = reference('llava-siglip');
  const target = join(scratch, 'config');
  await saveCheckpoint(target, (await loadCheckpoint(folder)).model);
  const read = (path: string): Record<string, unknown> =>
    JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as Record<string, unknown>;
  const [theirs, ours] = [read(folder), read(target)];
  expect(Object.keys(theirs).filter((key) => !(key in ours))).toEqual(['transformers_version']);
  for (const section of ['text_config', 'vision_config'] as const) {
    const inner = ours[section] as Record<string, unknown>;
    for (const [key, value] of Object.entries(inner)) {
      const known = (theirs[section] as Record<string, unknown>)[key];
      if (known !== undefined) expect(value, key).toEqual(known);
    }
  }
  expect(ours).toMatchObject({
    model_type: 'llava',
    image_token_index: 60,
    image_seq_length: 4,
    vision_feature_layer: -1,
    dtype: 'float32',
  });
});

test('parts come alone out of their own folders and out of a LLaVA', async () => {
  const alone = await loadVisionTower(reference('siglip').folder);
  expect(alone.config).toMatchObject({ type: 'siglip', featureLayer: -2, visionUseHead: true });
  const { folder, expected } = reference('llava-clip');
  const { tower, config } = await loadVisionTower(folder);
  expect(config).toMatchObject({ type: 'clip', featureLayer: -2, select: 'patch' });
  const { model: whole } = await loadCheckpoint(folder);
  const pixels = expected.tensor('pixel_values');
  expect(tower.forward(pixels)).toMatchTensor(whole.visionTower?.forward(pixels) ?? [], { atol: 0 });
  const { model } = await loadLanguageModel(folder);
  expect(model.headWeight).toMatchTensor(whole.languageModel.headWeight, { atol: 0 });
  const llama = await loadLanguageModel(reference('llama-tied-biases').folder);
  expect(llama.model.vocabSize).toBe(61);
});

test('a tower comes out of a whole CLIP, its old buffers and its text model left behind', async () => {
  const json = JSON.parse(readFileSync(join(reference('clip').folder, 'config.json'), 'utf8')) as Record<string, unknown>;
  const folder = respelled('clip', 'whole-clip', (key) => `vision_model.${key}`, { model_type: 'clip', vision_config: json });
  const extra = ['text_model.embeddings.token_embedding.weight', 'text_projection.weight', 'visual_projection.weight', 'logit_scale'];
  const named = [...extra, 'vision_model.embeddings.position_ids'].map((key): [string, Tensor] => [key, full([1], 0)]);
  writeSafetensors(join(folder, 'model.safetensors'), [...weightsIn(folder), ...named]);
  const { tower } = await loadVisionTower(folder, { overrides: { select: 'cls_patch' } });
  expect(tower.forward(reference('clip').expected.tensor('pixel_values'))).toMatchTensor(reference('clip').expected.tensor('hidden.2'));
});

test('a tied head that is written all the same is passed over, a missing head is not', async () => {
  const tied = respelled('llama-tied-biases', 'tied', (key) => key);
  writeSafetensors(join(tied, 'model.safetensors'), [...weightsIn(tied), ['lm_head.weight', full([61, 24], 0)]]);
  await loadCheckpoint(tied);
  const untied = respelled('llama-linear-rope', 'headless', (key) => (key === 'lm_head.weight' ? undefined : key));
  expect(await failure(loadCheckpoint(untied))).toMatchInlineSnapshot(`
    "CheckpointError: headless/model.safetensors: does not fit TinyLlava: 1 missing, 0 unexpected, 0 mis-shaped
      missing lm_head.weight [61, 24]
    hint: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads"
  `);
});

test('what does not fit is listed under the names in the file', async () => {
  const folder = respelled('llava-siglip', 'wrong', (key) => key.replace('linear_1', 'linear_3'), { vision_feature_layer: [-1, -2] });
  expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(`
    "CheckpointError: wrong/model.safetensors: does not fit TinyLlava: 2 missing, 2 unexpected, 0 mis-shaped
      missing model.multi_modal_projector.linear_1.weight [24, 32]
      missing model.multi_modal_projector.linear_1.bias [24]
      unexpected multi_modal_projector.linear_3.bias [24]
      unexpected multi_modal_projector.linear_3.weight [24, 16]
    hint: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads"
  `);
});

test('two spellings of one weight are refused', async () => {
  const folder = respelled('llava-siglip', 'twice', (key) => key);
  writeSafetensors(join(folder, 'model.safetensors'), [...weightsIn(folder), ['model.language_model.norm.weight', full([24], 1)]]);
  expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
    `"CheckpointError: twice/model.safetensors: both language_model.model.norm.weight and model.language_model.norm.weight are model.language_model.norm.weight"`,
  );
});

test('folders that are no model say what is missing', async () => {
  expect(await failure(loadCheckpoint(join(scratch, 'nowhere')))).toMatchInlineSnapshot(`
    "CheckpointError: nowhere: no such folder
    hint: a model is a folder with config.json and *.safetensors"
  `);
  writeFileSync(join(scratch, 'file'), '');
  expect(await failure(loadCheckpoint(join(scratch, 'file')))).toMatchInlineSnapshot(`
    "CheckpointError: file: a file, not a folder
    hint: a model is a folder with config.json and *.safetensors"
  `);
  mkdirSync(join(scratch, 'run/instruct'), { recursive: true });
  expect(await failure(loadCheckpoint(join(scratch, 'run')))).toMatchInlineSnapshot(`
    "CheckpointError: run: no config.json
    hint: a model is a folder with config.json and *.safetensors"
  `);
  writeFileSync(join(scratch, 'run/instruct/config.json'), '{}');
  expect(await failure(loadCheckpoint(join(scratch, 'run')))).toMatchInlineSnapshot(`
    "CheckpointError: run: no config.json
    hint: the models in it are run/instruct"
  `);
  mkdirSync(join(scratch, 'broken'));
  writeFileSync(join(scratch, 'broken/config.json'), '{"model_type": "llama",');
  expect(await failure(loadCheckpoint(join(scratch, 'broken')))).toMatchInlineSnapshot(
    `"ConfigError: broken/config.json: not JSON: Expected double-quoted property name in JSON at position 23"`,
  );
  writeFileSync(join(scratch, 'broken/config.json'), '{"model_type": "lama"}');
  expect(await failure(loadCheckpoint(join(scratch, 'broken')))).toMatchInlineSnapshot(`
    "ConfigError: broken/config.json: unknown language model "lama"
    hint: did you mean "llama"? known: llama, phi, phi3, stablelm, qwen2, qwen3, gemma, gemma2, gemma3_text, smollm3, openelm"
  `);
  writeFileSync(
    join(scratch, 'broken/config.json'),
    '{"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 2}, "hidden_size": -1}',
  );
  expect(await failure(loadCheckpoint(join(scratch, 'broken')))).toMatchInlineSnapshot(`
    "ConfigError: broken/config.json: hidden_size: Too small: expected number to be >0, got -1
    broken/config.json: rope_parameters.rope_type: Invalid discriminator value. Expected 'default' | 'linear' | 'llama3', got "yarn""
  `);
  writeFileSync(join(scratch, 'broken/config.json'), '{"model_type": "llama"}');
  expect(await failure(loadCheckpoint(join(scratch, 'broken')))).toMatchInlineSnapshot(
    `
    "CheckpointError: broken: no weights: none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json
    hint: fetch the weights of the model, or save it again"
  `,
  );
});

test('saving over a model replaces it whole, also while its weights are mapped', async () => {
  const target = join(scratch, 'replaced');
  cpSync(reference('llama-mqa').folder, target, { recursive: true });
  const { model } = await loadCheckpoint(target);
  await saveCheckpoint(target, model, { 'only.txt': 'new' });
  expect(readdirSync(target).sort()).toEqual(['config.json', 'model.safetensors', 'only.txt']);
  await loadCheckpoint(target);
});

test('a save that fails leaves what was there and nothing else', async () => {
  const target = join(scratch, 'kept');
  const { model } = await loadCheckpoint(reference('llama-mqa').folder);
  await saveCheckpoint(target, model);
  const before = readFileSync(join(target, 'config.json'), 'utf8');
  expect(await failure(saveCheckpoint(target, model, { 'a/b': 'x' }))).toMatchInlineSnapshot(
    `"CheckpointError: kept: the file name "a/b" is not a plain one"`,
  );
  expect(readFileSync(join(target, 'config.json'), 'utf8')).toBe(before);
  expect(readdirSync(scratch).filter((name) => name.includes('.kept'))).toEqual([]);
  expect(existsSync(join(target, 'a'))).toBe(false);
});

test('a saved model is on the disk, all of its names too', async ({ skip }) => {
  if (process.platform !== 'linux') skip('only Linux tells the path of an open file');
  const { model } = await loadCheckpoint(reference('llama-mqa').folder);
  const target = join(scratch, 'flushed');
  const { fsyncSync } = fs;
  const flushed: string[] = [];
  fs.fsyncSync = (file) => {
    const path = basename(readlinkSync(`/proc/self/fd/${file}`)).replaceAll(String(process.pid), '…');
    flushed.push(existsSync(target) ? `${path}, with the model in place` : path);
    fsyncSync(file);
  };
  syncBuiltinESMExports();
  try {
    await saveCheckpoint(target, model, {}, { maxShardBytes: 20_000 });
  } finally {
    fs.fsyncSync = fsyncSync;
    syncBuiltinESMExports();
  }
  expect(flushed.slice(-3)).toEqual([
    'model.safetensors.index.json',
    '.flushed.….part',
    `${basename(scratch)}, with the model in place`.replaceAll(String(process.pid), '…'),
  ]);
});

test('a model with parts that transformers lacks comes back from its own kind of config', async () => {
  const model = createTinyLlava({
    vision: {
      type: 'conv-vit',
      imageSize: 16,
      stemChannels: [4, 8],
      hiddenSize: 8,
      intermediateSize: 16,
      numHiddenLayers: 1,
      numAttentionHeads: 2,
    },
    connector: { type: 'pixel-shuffle', layers: 3 },
    language: {
      type: 'llama',
      vocabSize: 20,
      hiddenSize: 8,
      intermediateSize: 16,
      numHiddenLayers: 1,
      numAttentionHeads: 2,
      tieWordEmbeddings: true,
    },
    imageTokenId: 19,
  }).initialize(new Generator(1));
  const target = join(scratch, 'own');
  await saveCheckpoint(target, model);
  const json = JSON.parse(readFileSync(join(target, 'config.json'), 'utf8')) as Record<string, unknown>;
  expect(json).toMatchObject({
    model_type: 'tinyllava',
    connector_config: { model_type: 'pixel_shuffle', factor: 2 },
    image_seq_length: 4,
  });
  const back = await loadCheckpoint(target, { dtype: 'bfloat16' });
  expect(back.config).toEqual(model.config);
  expect(Array.from(back.model.namedParameters(), ([key]) => key).filter((key) => !key.includes('layers.'))).toMatchInlineSnapshot(`
    [
      "model.vision_tower.position_embedding",
      "model.vision_tower.stem.0.weight",
      "model.vision_tower.stem.0.bias",
      "model.vision_tower.stem.1.weight",
      "model.vision_tower.stem.1.bias",
      "model.vision_tower.stem_norm.weight",
      "model.vision_tower.stem_norm.bias",
      "model.vision_tower.post_layernorm.weight",
      "model.vision_tower.post_layernorm.bias",
      "model.multi_modal_projector.linear_1.weight",
      "model.multi_modal_projector.linear_1.bias",
      "model.multi_modal_projector.linear_2.weight",
      "model.multi_modal_projector.linear_2.bias",
      "model.multi_modal_projector.linear_3.weight",
      "model.multi_modal_projector.linear_3.bias",
      "model.language_model.embed_tokens.weight",
      "model.language_model.norm.weight",
    ]
  `);
  expect(back.model.languageModel.headWeight.dtype).toBe('bfloat16');
});

test('loading and freeing leaves no tensor behind', async () => {
  const before = liveTensors();
  const { model } = await loadCheckpoint(reference('llava-clip').folder, { dtype: 'bfloat16' });
  for (const parameter of model.parameters()) parameter.free();
  expect(liveTensors()).toBe(before);
});

test('mapped weights compute the same as those that are read, and are never written to', async () => {
  const { folder, ids, lengths } = reference('llama-tied-biases');
  const logits = ({ model }: Checkpoint): Tensor => model.logits(model.hidden({ ids: ids(), lengths: lengths() }));
  const copy = respelled('llama-tied-biases', 'mapped', (key) => key);
  const before = readFileSync(join(copy, 'model.safetensors'));
  const [read, mapped] = [await loadCheckpoint(folder), await loadCheckpoint(copy, { mapped: true })];
  expect(logits(mapped)).toMatchTensor(logits(read), { atol: 0 });
  for (const parameter of mapped.model.parameters()) parameter.fill_(1);
  expect(readFileSync(join(copy, 'model.safetensors')).equals(before)).toBe(true);
});

test.each([false, true])('weights are converted as tensors are (mapped: %s)', async (mapped) => {
  const { folder } = reference('llava-siglip');
  const stored = await loadCheckpoint(folder);
  const converted = await loadCheckpoint(folder, { dtype: 'bfloat16', mapped });
  const expected = new Map(stored.model.namedParameters());
  for (const [name, parameter] of converted.model.namedParameters()) {
    expect(parameter.dtype).toBe('bfloat16');
    expect(parameter, name).toMatchTensor((expected.get(name) as Tensor).cast('bfloat16'), { atol: 0 });
  }
});
