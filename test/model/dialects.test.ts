import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { TinyLlavaError } from '../../src/errors.ts';
import { loadCheckpoint, loadLanguageModel, loadVisionTower, readConfig, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { loadConnector } from '../../src/model/dialects/connector-file.ts';
import { createTinyLlava, TinyLlava } from '../../src/model/tinyllava.ts';
import { zeros } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { reference } from './reference.ts';

const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-dialects-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const published = [
  'dialect-factory',
  'dialect-factory-pretrain',
  'dialect-factory-qformer',
  'dialect-factory-mof',
  'dialect-factory2',
  'dialect-bench',
  'dialect-llava',
  'dialect-nanovlm',
];

/** A copy of a reference under another name, with changes to its config. */
function copy(name: string, label: string, config: Record<string, unknown> = {}): string {
  const folder = join(scratch, label);
  cpSync(reference(name).folder, folder, { recursive: true });
  const path = join(folder, 'config.json');
  writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as object), ...config }));
  return folder;
}

/** Puts -200, which stands for images in published files, to the model's own id, and gives the logits of the reference's batch. */
function logits(name: string, model: TinyLlava): Tensor {
  const { expected, ids, lengths } = reference(name);
  const placeholder = model.config.imageTokenId ?? 0;
  const batch = { ids: ids().map((id) => (id === -200 ? placeholder : id)), lengths: lengths() };
  return model.logits(model.hidden({ ...batch, pixels: expected.tensor('pixel_values') }));
}

async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (cause: unknown) => cause as Error,
  );
  const hint = error instanceof TinyLlavaError && error.hint ? `\nhint: ${error.hint}` : '';
  return `${error.name}: ${error.message}${hint}`.replaceAll(`${scratch}/`, '');
}

describe('what others published', () => {
  test.each(published)('%s gives the logits of the model that it is', async (name) => {
    const { model } = await loadCheckpoint(reference(name).folder, { dtype: 'float32' });
    expect(logits(name, model)).toMatchTensor(reference(name).expected.tensor('logits'));
  });

  test.each(published)('%s goes out as a checkpoint of ours and comes back the same', async (name) => {
    const { model, config } = await loadCheckpoint(reference(name).folder);
    const target = join(scratch, `${name}-saved`);
    await saveCheckpoint(target, model);
    const back = await loadCheckpoint(target, { dtype: 'float32' });
    expect(back.config).toEqual(config);
    expect(logits(name, back.model)).toMatchTensor(reference(name).expected.tensor('logits'));
  });

  test('the name of a folder says nothing', async () => {
    const folder = copy('dialect-factory-pretrain', 'lora-finetune-siglip-nanovlm');
    const { model } = await loadCheckpoint(folder, { dtype: 'float32' });
    expect(logits('dialect-factory-pretrain', model)).toMatchTensor(reference('dialect-factory-pretrain').expected.tensor('logits'));
  });

  test.each(published)('the parts of %s come alone', async (name) => {
    const { folder, expected } = reference(name);
    const { model } = await loadCheckpoint(folder, { dtype: 'float32' });
    const { tower } = await loadVisionTower(folder, { dtype: 'float32' });
    const pixels = expected.tensor('pixel_values');
    expect(tower.forward(pixels)).toMatchTensor(model.visionTower?.forward(pixels) ?? [], { atol: 0 });
    const language = await loadLanguageModel(folder, { dtype: 'float32' });
    expect(language.model.headWeight).toMatchTensor(model.languageModel.headWeight, { atol: 0 });
  });

  test('a connector comes out of a file of its own', async () => {
    const { folder } = reference('dialect-llava');
    const { model } = await loadCheckpoint(folder, { dtype: 'float32' });
    const before = Array.from(model.connector?.parameters() ?? [], (tensor) => tensor.cast('bfloat16').cast('float32'));
    model.connector?.initialize(new Generator(1));
    loadConnector(model, join(folder, 'projector/mm_projector.bin'));
    const after = [...(model.connector?.parameters() ?? [])];
    expect(after.length).toBe(4);
    for (const [i, tensor] of after.entries()) expect(tensor).toMatchTensor(before[i] ?? [], { atol: 0 });

    const pretrained = reference('dialect-factory-pretrain');
    const whole = (await loadCheckpoint(pretrained.folder, { dtype: 'float32' })).model;
    whole.connector?.initialize(new Generator(2));
    loadConnector(whole, join(pretrained.folder, 'connector/pytorch_model.bin'));
    expect(logits('dialect-factory-pretrain', whole)).toMatchTensor(pretrained.expected.tensor('logits'));
  });

  test('loading and freeing leaves no tensor behind', async () => {
    const before = liveTensors();
    for (const name of ['dialect-nanovlm', 'dialect-factory-qformer']) {
      const { model } = await loadCheckpoint(reference(name).folder);
      for (const parameter of model.parameters()) parameter.free();
    }
    expect(liveTensors()).toBe(before);
  });
});

describe('at their published sizes', () => {
  test("Factory's SigLIP has 728 tokens, for the first of 729 patches is taken for a class token", async () => {
    const vision = { model_type: 'siglip_vision_model', hidden_size: 1152, num_attention_heads: 16, image_size: 384, patch_size: 14 };
    const folder = copy('dialect-factory', 'factory-728', { vision_config: vision });
    expect(new TinyLlava(await readConfig(folder)).imageTokens).toBe(728);
    const whole = copy('dialect-factory', 'factory-729', { vision_config: vision, vision_feature_select_strategy: 'cls_patch' });
    expect(new TinyLlava(await readConfig(whole)).imageTokens).toBe(729);
  });

  test("TinyLLaVABench's SigLIP has 729 tokens of 26 layers, for images of 384 pixels", async () => {
    const folder = copy('dialect-bench', 'bench-729');
    const prefix = 'model.vision_tower.vision_tower.vision_model';
    const sizes: [string, number[]][] = [
      ['embeddings.patch_embedding.weight', [1152, 1, 14, 1]],
      ['embeddings.position_embedding.weight', [729, 1]],
      ...Array.from({ length: 26 }, (_, i): [string, number[]] => [`encoder.layers.${i}.mlp.fc1.weight`, [4304, 1]]),
    ];
    const tensors = sizes.map(([key, shape]): [string, Tensor] => [`${prefix}.${key}`, zeros(shape)]);
    writeSafetensors(join(folder, 'model.safetensors'), [...tensors, ['model.embed_tokens.weight', zeros([31, 1])]]);
    const config = await readConfig(folder);
    expect(config.vision).toMatchObject({
      type: 'siglip',
      hiddenSize: 1152,
      intermediateSize: 4304,
      numHiddenLayers: 26,
      numAttentionHeads: 16,
      imageSize: 384,
      patchSize: 14,
      featureLayer: -1,
      visionUseHead: false,
      dropFirstPatch: false,
    });
    expect(new TinyLlava(config).imageTokens).toBe(729);
  });

  test("TinyLLaVABench's StableLM has the names and defaults of its own code", async () => {
    const own = { model_type: 'tiny_llava_stablelm', num_key_value_heads: 2, rope_pct: 0.25, norm_eps: 1e-6 };
    const folder = copy('dialect-bench', 'stablelm', { ...own, partial_rotary_factor: undefined, layer_norm_eps: undefined });
    expect((await readConfig(folder)).language).toMatchObject({
      type: 'stablelm',
      partialRotaryFactor: 0.25,
      layerNormEps: 1e-6,
      useQkvBias: true,
    });
  });

  test('nanoVLM-222M has 222 million parameters and 49 tokens an image', async () => {
    const vision = { vit_hidden_dim: 768, vit_inter_dim: 3072, vit_patch_size: 16, vit_img_size: 224, vit_n_heads: 12, vit_n_blocks: 12 };
    const language = { lm_hidden_dim: 576, lm_inter_dim: 1536, lm_n_heads: 9, lm_n_kv_heads: 3, lm_n_blocks: 30, lm_vocab_size: 49_152 };
    const folder = copy('dialect-nanovlm', 'nanovlm-222m', { ...vision, ...language, vlm_extra_tokens: {} });
    const config = await readConfig(folder);
    const model = new TinyLlava(config);
    expect([model.imageTokens, model.parameterCount(), config.imageTokenId]).toMatchInlineSnapshot(`
      [
        49,
        222081600,
        49152,
      ]
    `);
  });

  test("nanoVLM's image token stands among the extra ones behind the tokenizer's own", async () => {
    expect((await readConfig(reference('dialect-nanovlm').folder)).imageTokenId).toBe(31);
    const later = copy('dialect-nanovlm', 'later', { vlm_extra_tokens: { start: '<s>', image_token: '<|image|>' } });
    expect((await readConfig(later)).imageTokenId).toBe(32);
  });
});

describe('what is refused', () => {
  test('a pickle with code in it', async () => {
    const folder = copy('dialect-factory-qformer', 'code');
    const path = join(folder, 'pytorch_model.bin');
    const bytes = readFileSync(path);
    bytes.write('posix.system', bytes.indexOf('torch._utils'));
    writeFileSync(path, bytes);
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(`
      "CheckpointError: code/pytorch_model.bin: uses posix.system._rebuild_tensor_v2, which tensors do not need
      hint: a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors"
    `);
  });

  test('a truncated shard, a missing one, and an index that is wrong', async () => {
    const folder = copy('dialect-llava', 'shards');
    const shard = join(folder, 'pytorch_model-00002-of-00002.bin');
    truncateSync(shard, 20_000);
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(`
      "CheckpointError: shards/pytorch_model-00002-of-00002.bin: cut short or no zip file: no directory at the end of its 20000 bytes
      hint: the file is damaged or was not written by torch.save; fetch or save it again"
    `);
    rmSync(shard);
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `
      "CheckpointError: shards/pytorch_model.bin.index.json: names pytorch_model-00002-of-00002.bin, which is not there
      hint: fetch the index and all its files again, from one revision"
    `,
    );
    const index = join(folder, 'pytorch_model.bin.index.json');
    const pointing = (fileName: string) => JSON.stringify({ weight_map: { 'model.norm.bias': fileName } });
    writeFileSync(index, pointing('pytorch_model-00001-of-00002.bin'));
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `
      "CheckpointError: shards/pytorch_model.bin.index.json: says that pytorch_model-00001-of-00002.bin holds "model.norm.bias", which it does not
      hint: fetch the index and all its files again, from one revision"
    `,
    );
    writeFileSync(index, pointing('../shards/pytorch_model-00001-of-00002.bin'));
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `
      "CheckpointError: shards/pytorch_model.bin.index.json: "../shards/pytorch_model-00001-of-00002.bin" lies outside the folder
      hint: fetch the index and all its files again, from one revision"
    `,
    );
    writeFileSync(index, '{"weights": {}}');
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `
      "CheckpointError: shards/pytorch_model.bin.index.json: not an index of weights
      hint: fetch the index and all its files again, from one revision"
    `,
    );
    rmSync(index);
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `
      "CheckpointError: shards: no weights: none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json
      hint: fetch the weights of the model, or save it again"
    `,
    );
  });

  test('weights of another width', async () => {
    const text = { ...(await readText('dialect-factory')), hidden_size: 24, num_attention_heads: 3 };
    expect(await failure(loadCheckpoint(copy('dialect-factory', 'width', { text_config: text })))).toMatchInlineSnapshot(`
      "CheckpointError: width/model.safetensors: does not fit TinyLlava: 0 missing, 0 unexpected, 21 mis-shaped
        mis-shaped model.multi_modal_projector.linear_1.weight: expected [24, 16], got [16, 16]
        mis-shaped model.multi_modal_projector.linear_1.bias: expected [24], got [16]
        mis-shaped model.multi_modal_projector.linear_2.weight: expected [24, 24], got [16, 16]
        mis-shaped model.multi_modal_projector.linear_2.bias: expected [24], got [16]
        mis-shaped model.language_model.embed_tokens.weight: expected [31, 24], got [31, 16]
        mis-shaped model.language_model.layers.0.self_attn.q_proj.weight: expected [24, 24], got [16, 16]
        mis-shaped … and 15 more
      hint: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads"
    `);
    expect(await failure(loadCheckpoint(copy('dialect-nanovlm', 'narrow', { lm_inter_dim: 20 })))).toMatchInlineSnapshot(`
      "CheckpointError: narrow/model.safetensors: does not fit TinyLlava: 0 missing, 0 unexpected, 3 mis-shaped
        mis-shaped model.language_model.layers.0.mlp.gate_proj.weight: expected [20, 24], got [28, 24]
        mis-shaped model.language_model.layers.0.mlp.up_proj.weight: expected [20, 24], got [28, 24]
        mis-shaped model.language_model.layers.0.mlp.down_proj.weight: expected [24, 20], got [24, 28]
      hint: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads"
    `);
  });

  test('a weight too many', async () => {
    const folder = copy('dialect-factory2', 'extra');
    const path = join(folder, 'model.safetensors');
    const file = openSafetensors(path);
    const tensors = file.names.map((name): [string, Tensor] => [name, file.tensor(name)]);
    writeSafetensors(path, [...tensors, ['model.multi_modal_projector.gate', zeros([2])]]);
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(`
      "CheckpointError: extra/model.safetensors: does not fit TinyLlava: 0 missing, 1 unexpected, 0 mis-shaped
        unexpected model.multi_modal_projector.gate [2]
      hint: the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads"
    `);
  });

  test('connectors and language models that nobody here knows', async () => {
    expect(await failure(readConfig(copy('dialect-factory', 'connector', { connector_type: 'mlp2x_relu' })))).toMatchInlineSnapshot(`
      "ConfigError: connector/config.json: unknown connector_type "mlp2x_relu"
      hint: known: identity, linear, mlp1x_gelu, mlp2x_gelu, …, resampler, qformer, mof_mlp"
    `);
    expect(await failure(readConfig(copy('dialect-llava', 'projector', { mm_projector_type: 'resampler' })))).toMatchInlineSnapshot(`
      "ConfigError: projector/config.json: unknown mm_projector_type "resampler"
      hint: known: identity, linear, mlp1x_gelu, mlp2x_gelu, …"
    `);
    expect(await failure(readConfig(copy('dialect-llava', 'language', { model_type: 'llava_mpt' })))).toMatchInlineSnapshot(`
      "ConfigError: language/config.json: unknown kind of LLaVA "llava_mpt"
      hint: known: llava, llava_llama, tiny_llava, tiny_llava_phi, tiny_llava_stablelm"
    `);
    expect(await failure(readConfig(copy('dialect-nanovlm', 'class-token', { vit_cls_flag: true })))).toMatchInlineSnapshot(
      `"ConfigError: class-token/config.json: vit_cls_flag: Invalid input: expected false, got true"`,
    );
  });

  test('a LLaVA without its tower, and a folder that is missing', async () => {
    const towerless = copy('dialect-llava', 'towerless');
    const index = join(towerless, 'pytorch_model.bin.index.json');
    const { weight_map } = JSON.parse(readFileSync(index, 'utf8')) as { weight_map: Record<string, string> };
    const kept = Object.fromEntries(Object.entries(weight_map).filter(([key]) => !key.includes('vision_tower')));
    writeFileSync(index, JSON.stringify({ weight_map: kept }));
    expect(await failure(loadCheckpoint(towerless))).toMatchInlineSnapshot(`
      "CheckpointError: towerless: no vision tower among the weights; config.json names "openai/clip-vit-large-patch14-336"
      hint: build the model from that tower and a language model, and load mm_projector.bin with loadConnector"
    `);
    const folder = copy('dialect-factory-pretrain', 'folders');
    rmSync(join(folder, 'connector'), { recursive: true });
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `"CheckpointError: folders: no folder connector beside language_model, vision_tower"`,
    );
  });

  test('a connector of another width, and a model that has none', async () => {
    const { folder } = reference('dialect-llava');
    const { model } = await loadCheckpoint(reference('dialect-bench').folder);
    expect(() => loadConnector(model, join(folder, 'projector/mm_projector.bin'))).toThrow(
      'does not fit MlpConnector: 0 missing, 0 unexpected, 4 mis-shaped',
    );
    const alone = createTinyLlava({ language: { type: 'llama', hiddenSize: 8, numAttentionHeads: 2, numHiddenLayers: 1 } });
    expect(() => loadConnector(alone, join(folder, 'projector/mm_projector.bin'))).toThrow('it has no connector');
  });
});

async function readText(name: string): Promise<Record<string, unknown>> {
  const json = JSON.parse(readFileSync(join(reference(name).folder, 'config.json'), 'utf8')) as { text_config: Record<string, unknown> };
  return json.text_config;
}
