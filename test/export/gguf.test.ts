import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { convert } from '../../src/export/convert.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { PartConfig } from '../../src/model/part.ts';
import { type GgufFile, openGguf } from '../../src/tensor/gguf.ts';
import '../matchers.ts';
import { languageFolder, llama, scratchFolder, type Tiny, tinyFolder, tokenizers, vit, withTokenizer } from './models.ts';

const scratch = scratchFolder();
const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) =>
    command !== undefined &&
    spawnSync(command, ['-c', 'import torch, gguf, safetensors; from transformers import LlavaConfig']).status === 0,
);

const small = { hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 2, numAttentionHeads: 4, numKeyValueHeads: 2 };
const gemma = { ...small, headDim: 8, queryPreAttnScalar: 8, slidingWindow: 6 };
const llama3 = {
  ropeType: 'llama3',
  ropeTheta: 500_000,
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 8192,
};

/** Every language model that llama.cpp has. */
const languages: Readonly<Record<string, PartConfig>> = {
  llama: { type: 'llama', ...small, headDim: 16, attentionBias: true, mlpBias: true },
  'llama-3': { type: 'llama', ...small, ropeParameters: llama3, tieWordEmbeddings: true },
  qwen2: { type: 'qwen2', ...small },
  qwen3: { type: 'qwen3', ...small, headDim: 16 },
  phi3: { type: 'phi3', ...small, padTokenId: 0 },
  gemma3: { type: 'gemma3_text', ...gemma, numHiddenLayers: 7 },
  'gemma3-pattern': { type: 'gemma3_text', ...gemma, slidingWindowPattern: 2, finalLogitSoftcapping: 5 },
  gemma2: { type: 'gemma2', ...gemma },
  gemma: { type: 'gemma', ...small, headDim: 16 },
  phi: { type: 'phi', ...small },
  stablelm: { type: 'stablelm', ...small, useQkvBias: true },
  smollm3: { type: 'smollm3', ...small, numHiddenLayers: 5 },
  openelm: {
    type: 'openelm',
    modelDim: 32,
    headDim: 8,
    numTransformerLayers: 3,
    numGqaGroups: 2,
    ffnMultipliers: [1, 3],
    qkvMultipliers: [0.5, 1],
    ffnDimDivisor: 16,
    normalizeQkProjections: true,
    shareInputOutputLayers: true,
  },
};

/** Those that are read from GGUF here too, and how far logits may be apart: norms of 1 + weight lose bits. */
const readable = { llama: 0, 'llama-3': 0, qwen2: 0, qwen3: 0, phi3: 0, gemma3: 5e-5, 'gemma3-pattern': 5e-5 };

describe('a language model', () => {
  test.each(Object.entries(readable))('%s comes back from a file of float32', async (name, atol) => {
    const [folder, path] = [join(scratch, name), join(scratch, `${name}.gguf`)];
    const model = await languageFolder(folder, languages[name] ?? llama);
    await convert(folder, path, { to: 'gguf', type: 'f32' });
    const batch = { ids: Int32Array.from({ length: 12 }, (_, i) => 7 * i), lengths: [9, 3] };
    const { model: read, config } = await loadCheckpoint(path);
    expect(read.logits(read.hidden(batch))).toMatchTensor(model.logits(model.hidden(batch)), { atol });
    expect(config.language.type).toBe(model.config.language.type);
  });

  test.each(['llama', 'llama3', 'qwen2', 'qwen3', 'phi3', 'phi3-longrope', 'gemma3'])(
    '%s that the gguf package wrote is written again tensor for tensor',
    async (name) => {
      const path = join(import.meta.dirname, '../reference/gguf', `${name}.gguf`);
      const [folder, again] = [join(scratch, `again-${name}`), join(scratch, `again-${name}.gguf`)];
      await convert(path, folder, { to: 'hf' });
      for (const file of ['tokenizer.json', 'tokenizer_config.json'])
        cpSync(join(import.meta.dirname, '../reference', tokenizers.pieces, file), join(folder, file));
      await convert(folder, again, { to: 'gguf', type: 'f32' });
      const [first, second] = [openGguf(path), openGguf(again)];
      expect([...second.names].sort()).toEqual([...first.names].sort());
      for (const tensor of first.names) expect(second.tensor(tensor), tensor).toMatchTensor(first.tensor(tensor), { atol: 2e-7 });
      const settings = (file: GgufFile): Record<string, unknown> =>
        Object.fromEntries([...file.metadata].filter(([key]) => !/^tokenizer|^general/.test(key)));
      expect(settings(second)).toMatchObject(settings(first));
    },
  );

  test.each([
    ['f16', 0.01],
    ['bf16', 0.08],
    ['q8_0', 0.05],
    ['q5_1', 0.3],
    ['q4_0', 0.6],
  ])('keeps its logits near in %s', async (type, atol) => {
    const folder = join(scratch, 'wide');
    const sees: Tiny = { vision: { type: 'siglip', ...vit }, connector: { type: 'mlp' }, language: { ...llama, intermediateSize: 96 } };
    await tinyFolder(folder, sees);
    const path = join(scratch, `wide-${type}.gguf`);
    const { notes } = await convert(folder, path, { to: 'gguf', type, force: true });
    expect(notes).toEqual(['no chat template: name one with --template']);
    const model = async (from: string) => (await loadCheckpoint(from)).model;
    const batch = { ids: Int32Array.of(1, 2, 3, 4), lengths: [4] };
    const [whole, alone] = [await model(folder), await model(path)];
    const apart = alone
      .logits(alone.hidden(batch))
      .sub(whole.logits(whole.hidden(batch)))
      .abs()
      .amax()
      .item();
    expect(apart).toBeLessThan(atol);
    expect(apart).toBeGreaterThan(0);
  });

  test('has its norms and biases in float32, and rows that no block fills in float16, which is said', async () => {
    const path = join(scratch, 'narrow.gguf');
    const { notes } = await convert(withTokenizer('qwen2', scratch, 'pieces'), path, { to: 'gguf', type: 'q4_0' });
    const file = openGguf(path);
    expect(new Set(file.names.map((name) => file.type(name)))).toEqual(new Set(['F16', 'F32']));
    expect(file.names.filter((name) => file.type(name) === 'F32' && !/norm\.weight$|\.bias$/.test(name))).toEqual([]);
    expect(notes[0]).toMatch(/^\d+ matrices have rows that no block of q4_0 fills: they are stored as f16$/);
  });

  test.skipIf(python === undefined)(
    'is what transformers and the gguf package read (needs a Python with both: TINYLLAVA_PYTHON)',
    async () => {
      const jobs: string[] = [];
      for (const [name, language] of Object.entries(languages)) {
        const folder = join(scratch, `python-${name}`);
        await languageFolder(folder, language);
        await convert(folder, `${folder}.gguf`, { to: 'gguf', type: 'f32' });
        jobs.push(`${folder}.gguf`, folder);
      }
      const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-python-gguf.py', ...jobs], { encoding: 'utf8' });
      expect(status, `${stdout}\n${stderr}`).toBe(0);
      expect(stdout.trim().split('\n')).toHaveLength(Object.keys(languages).length);
    },
    120_000,
  );
});

describe('what llama.cpp does not compute is refused by name', () => {
  const complaint = (folder: string): Promise<string> =>
    convert(folder, join(scratch, 'refused.gguf'), { to: 'gguf' }).then(
      () => 'converted',
      (error: TinyLlavaError) => error.message,
    );

  test('in language models', async () => {
    const odd = ['qwen2-windows', 'qwen3-windows', 'smollm3-windows', 'phi-norms', 'gemma-untied', 'gemma2-uncapped', 'openelm-plain'];
    const found: Record<string, string> = {};
    for (const name of odd) found[name] = await complaint(withTokenizer(name, scratch));
    expect(found).toMatchInlineSnapshot(`
      {
        "gemma-untied": "gguf: llama.cpp's gemma has no such biases; attentionBias is true here",
        "gemma2-uncapped": "gguf: llama.cpp's gemma2 has scores over the root of 6; queryPreAttnScalar is 10 here",
        "openelm-plain": "gguf: llama.cpp's openelm has gated perceptrons; ffnWithGlu is false here",
        "phi-norms": "gguf: llama.cpp's phi has no norms of heads; qkLayernorm is true here",
        "qwen2-windows": "gguf: llama.cpp's qwen2 has no windows; useSlidingWindow is true here",
        "qwen3-windows": "gguf: llama.cpp's qwen3 has no windows; useSlidingWindow is true here",
        "smollm3-windows": "gguf: llama.cpp's smollm3 has no windows; useSlidingWindow is true here",
      }
    `);
  });

  test('in towers and connectors', async () => {
    const siglip = { type: 'siglip', ...vit };
    const cases: Readonly<Record<string, Tiny>> = {
      linear: { vision: siglip, connector: { type: 'linear' } },
      resampler: { vision: siglip, connector: { type: 'resampler', numQueries: 2 } },
      dinov2: {
        vision: { type: 'dinov2', hiddenSize: 64, numHiddenLayers: 2, numAttentionHeads: 1, imageSize: 12, patchSize: 4 },
        connector: { type: 'mlp' },
      },
      'first patch': { vision: { ...siglip, dropFirstPatch: true }, connector: { type: 'mlp' } },
      'class token': { vision: { type: 'clip', ...vit, select: 'cls_patch' }, connector: { type: 'mlp' } },
      'order of layers': { vision: { ...siglip, featureLayer: [-1, -2] }, connector: { type: 'mlp' } },
      'three layers': { vision: siglip, connector: { type: 'mlp', layers: 3 } },
      'ldp-v2 of few patches': { vision: siglip, connector: { type: 'ldp-v2', side: 3 } },
      'pixel shuffle without tokens of SmolVLM': {
        vision: siglip,
        connector: { type: 'pixel-shuffle', factor: 3, layers: 1, bias: false },
      },
      'internvl without a class token': { vision: siglip, connector: { type: 'pixel-shuffle-mlp', factor: 3 } },
    };
    const found: Record<string, string> = {};
    for (const [name, tiny] of Object.entries(cases)) {
      const folder = join(scratch, name);
      await tinyFolder(folder, tiny);
      found[name] = await complaint(folder);
    }
    expect(found).toMatchInlineSnapshot(`
      {
        "class token": "gguf: a class token among the features, which llama.cpp's image encoder does not compute",
        "dinov2": "gguf: a vision tower dinov2, which llama.cpp's image encoder does not compute",
        "first patch": "gguf: features without the first patch, which llama.cpp's image encoder does not compute",
        "internvl without a class token": "gguf: llama.cpp's projector "internvl" is for models with a tower with a class token, and features of one layer, which this one is not",
        "ldp-v2 of few patches": "gguf: llama.cpp's projector "ldpv2" is for models with tokens of 24 x 24 patches that become 12 x 12, which this one is not",
        "linear": "gguf: llama.cpp has no projector for the connector linear",
        "order of layers": "gguf: features of the layers 2, 1, which llama.cpp's image encoder does not compute",
        "pixel shuffle without tokens of SmolVLM": "gguf: llama.cpp's projector "idefics3" is for models with the token "\\n\\n", which this one is not",
        "resampler": "gguf: llama.cpp has no projector for the connector resampler",
        "three layers": "gguf: llama.cpp's projector "mlp" is for models with two layers with GELU between them, which this one is not",
      }
    `);
  });

  test('in tokenizers', async () => {
    expect(await complaint(withTokenizer('qwen2', scratch, 'words'))).toMatchInlineSnapshot(
      `"gguf: a tokenizer of the kind WordLevel, which llama.cpp lacks"`,
    );
    const folder = join(scratch, 'cuts');
    cpSync(withTokenizer('qwen2', scratch), folder, { recursive: true });
    const path = join(folder, 'tokenizer.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"add_prefix_space": false', '"add_prefix_space": true'));
    expect(await complaint(folder)).toMatchInlineSnapshot(
      `"gguf: the tokenizer cuts texts into words in a way that llama.cpp is not known to have"`,
    );
  });
});

test('the image encoder is cut behind the layer whose output is taken, in the names of llama.cpp', async () => {
  const folder = join(scratch, 'encoder');
  await tinyFolder(folder, { vision: { type: 'siglip', ...vit, numHiddenLayers: 3 }, connector: { type: 'mlp' } });
  await convert(folder, join(scratch, 'encoder.gguf'), { to: 'gguf', type: 'f32' });
  const file = openGguf(join(scratch, 'mmproj-encoder.gguf'));
  expect(Object.fromEntries(file.metadata)).toMatchInlineSnapshot(`
    {
      "clip.has_llava_projector": true,
      "clip.has_vision_encoder": true,
      "clip.projector_type": "mlp",
      "clip.use_gelu": true,
      "clip.use_silu": false,
      "clip.vision.attention.head_count": 1,
      "clip.vision.attention.layer_norm_epsilon": 9.999999974752427e-7,
      "clip.vision.block_count": 2,
      "clip.vision.embedding_length": 64,
      "clip.vision.feature_layer": [
        2,
      ],
      "clip.vision.feed_forward_length": 48,
      "clip.vision.image_mean": [
        0.5,
        0.4000000059604645,
        0.30000001192092896,
      ],
      "clip.vision.image_size": 12,
      "clip.vision.image_std": [
        1,
        1,
        1,
      ],
      "clip.vision.patch_size": 4,
      "clip.vision.projection_dim": 64,
      "general.architecture": "clip",
      "general.file_type": 0,
      "general.name": "encoder",
      "general.quantization_version": 2,
      "general.type": "mmproj",
    }
  `);
  expect(file.names.map((name) => `${name} ${file.type(name)} [${file.shape(name).join(', ')}]`)).toMatchInlineSnapshot(`
    [
      "v.patch_embd.weight F32 [64, 3, 4, 4]",
      "v.patch_embd.bias F32 [64]",
      "v.position_embd.weight F32 [9, 64]",
      "v.blk.0.attn_k.weight F32 [64, 64]",
      "v.blk.0.attn_k.bias F32 [64]",
      "v.blk.0.attn_v.weight F32 [64, 64]",
      "v.blk.0.attn_v.bias F32 [64]",
      "v.blk.0.attn_q.weight F32 [64, 64]",
      "v.blk.0.attn_q.bias F32 [64]",
      "v.blk.0.attn_out.weight F32 [64, 64]",
      "v.blk.0.attn_out.bias F32 [64]",
      "v.blk.0.ln1.weight F32 [64]",
      "v.blk.0.ln1.bias F32 [64]",
      "v.blk.0.ffn_up.weight F32 [48, 64]",
      "v.blk.0.ffn_up.bias F32 [48]",
      "v.blk.0.ffn_down.weight F32 [64, 48]",
      "v.blk.0.ffn_down.bias F32 [64]",
      "v.blk.0.ln2.weight F32 [64]",
      "v.blk.0.ln2.bias F32 [64]",
      "v.blk.1.attn_k.weight F32 [64, 64]",
      "v.blk.1.attn_k.bias F32 [64]",
      "v.blk.1.attn_v.weight F32 [64, 64]",
      "v.blk.1.attn_v.bias F32 [64]",
      "v.blk.1.attn_q.weight F32 [64, 64]",
      "v.blk.1.attn_q.bias F32 [64]",
      "v.blk.1.attn_out.weight F32 [64, 64]",
      "v.blk.1.attn_out.bias F32 [64]",
      "v.blk.1.ln1.weight F32 [64]",
      "v.blk.1.ln1.bias F32 [64]",
      "v.blk.1.ffn_up.weight F32 [48, 64]",
      "v.blk.1.ffn_up.bias F32 [48]",
      "v.blk.1.ffn_down.weight F32 [64, 48]",
      "v.blk.1.ffn_down.bias F32 [64]",
      "v.blk.1.ln2.weight F32 [64]",
      "v.blk.1.ln2.bias F32 [64]",
      "mm.0.weight F32 [64, 64]",
      "mm.0.bias F32 [64]",
      "mm.2.weight F32 [64, 64]",
      "mm.2.bias F32 [64]",
    ]
  `);
  expect(basename(file.path)).toBe('mmproj-encoder.gguf');
});
