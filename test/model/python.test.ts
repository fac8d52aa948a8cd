import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { languageModels } from '../../src/model/language/index.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { randn, tensor } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import { writeSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { languageReferences, llamaReferences, reference } from './reference.ts';

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) =>
    command !== undefined && spawnSync(command, ['-c', 'import torch, safetensors; from transformers import LlavaConfig']).status === 0,
);
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-python-'));
afterAll(() => rmSync(scratch, { recursive: true }));

async function write(
  name: string,
  model: TinyLlava,
  batch: { ids: Int32Array; lengths: number[]; pixels?: Tensor },
  sharding: { maxShardBytes?: number } = {},
): Promise<string> {
  const folder = join(scratch, name);
  await saveCheckpoint(folder, model, {}, sharding);
  const logits = model.logits(model.hidden(batch));
  const tensors = {
    input_ids: tensor(batch.ids),
    lengths: tensor(Int32Array.from(batch.lengths)),
    logits,
    ...(batch.pixels && { pixel_values: batch.pixels }),
  };
  writeSafetensors(join(folder, 'expected.safetensors'), Object.entries(tensors));
  return folder;
}

const vision = {
  type: 'siglip',
  hiddenSize: 8,
  intermediateSize: 12,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  imageSize: 8,
  patchSize: 4,
};

test.skipIf(python === undefined)(
  'transformers computes the same from every family of language models, alone and in a LLaVA',
  async () => {
    const folders: string[] = [];
    for (const name of languageReferences) {
      const { folder, ids, lengths } = reference(name);
      const { model, config } = await loadCheckpoint(folder);
      if (config.language.type !== 'openelm') folders.push(await write(name, model, { ids: ids(), lengths: lengths() }));
      const kind = languageModels[config.language.type as keyof typeof languageModels];
      if (!kind.inTransformers(config.language)) continue;
      const llava = createTinyLlava({
        language: { ...config.language, initializerRange: 0.3 },
        vision: { ...vision, visionUseHead: false, featureLayer: -1 },
        connector: { type: 'mlp' },
        imageTokenId: 44,
      });
      llava.initialize(new Generator(7));
      const batch = { ids: Int32Array.of(1, 44, 44, 44, 44, 2, 3, 4, 5), lengths: [7, 2], pixels: randn([1, 3, 8, 8]) };
      folders.push(await write(`llava-${name}`, llava, batch));
    }
    const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-python-loads.py', ...folders], { encoding: 'utf8' });
    expect(status, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(folders.length);
  },
  240_000,
);

test.skipIf(python === undefined)(
  'transformers computes the same from what we saved (needs a Python with transformers: TINYLLAVA_PYTHON)',
  async () => {
    const folders: string[] = [];
    for (const name of [...llamaReferences, 'llava-clip', 'llava-clip-two-layers', 'llava-siglip']) {
      const { folder, expected, ids, lengths } = reference(name);
      const { model } = await loadCheckpoint(folder);
      const pixels = expected.names.includes('pixel_values') ? { pixels: expected.tensor('pixel_values') } : {};
      folders.push(await write(name, model, { ids: ids(), lengths: lengths(), ...pixels }));
    }
    const siglip = {
      type: 'siglip',
      hiddenSize: 16,
      intermediateSize: 24,
      numHiddenLayers: 2,
      numAttentionHeads: 2,
      imageSize: 12,
      patchSize: 4,
    };
    const llama = {
      type: 'llama',
      vocabSize: 20,
      hiddenSize: 24,
      intermediateSize: 32,
      numHiddenLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
    };
    const fresh = createTinyLlava({
      vision: { ...siglip, dropFirstPatch: true },
      connector: { type: 'mlp' },
      language: llama,
      imageTokenId: 19,
    });
    fresh.initialize(new Generator(4));
    const ids = Int32Array.from([1, 2, ...new Array<number>(8).fill(19), 3, 4, 5]);
    folders.push(await write('fresh', fresh, { ids, lengths: [11, 2], pixels: randn([1, 3, 12, 12], { generator: new Generator(5) }) }));

    const sharded = await write('sharded', fresh, { ids, lengths: [11, 2], pixels: randn([1, 3, 12, 12]) }, { maxShardBytes: 5000 });
    expect(readdirSync(sharded).filter((name) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name)).length).toBeGreaterThan(2);
    folders.push(sharded);

    const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-python-loads.py', ...folders], { encoding: 'utf8' });
    expect(status, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(8);
  },
  120_000,
);
