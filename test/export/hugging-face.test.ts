import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { convert } from '../../src/export/convert.ts';
import { loadModel } from '../../src/generate/generate.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { Json } from '../../src/model/part.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { tensor } from '../../src/tensor/create.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { reference } from '../model/reference.ts';
import { scratchFolder, tinyFolder, vit, withTokenizer } from './models.ts';

const scratch = scratchFolder();
const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) =>
    command !== undefined && spawnSync(command, ['-c', 'import torch, safetensors; from transformers import LlavaConfig']).status === 0,
);

const published = ['factory', 'factory-pretrain', 'factory-qformer', 'factory-mof', 'factory2', 'bench', 'llava', 'nanovlm'].map(
  (name) => `dialect-${name}`,
);

/** A reference's batch: -200 and other placeholders stand for the model's own. */
function batch(name: string, model: TinyLlava, placeholder: number): { ids: Int32Array; lengths: number[]; pixels: Tensor } {
  const { expected, ids, lengths } = reference(name);
  const own = model.config.imageTokenId ?? 0;
  return {
    ids: ids().map((id) => (id === -200 || id === placeholder ? own : id)),
    lengths: lengths(),
    pixels: expected.tensor('pixel_values'),
  };
}

const configOf = (folder: string): Json => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Json;

describe('to hf', () => {
  test.each(published)('%s gives the same logits in float32', async (name) => {
    const target = join(scratch, name);
    await convert(reference(name).folder, target, { to: 'hf', dtype: 'float32' });
    const before = await loadCheckpoint(reference(name).folder, { dtype: 'float32' });
    const { model } = await loadCheckpoint(target);
    const logits = model.logits(model.hidden(batch(name, model, before.config.imageTokenId ?? 0)));
    const words = before.model.languageModel.vocabSize;
    expect(logits.narrow(1, 0, words)).toMatchTensor(reference(name).expected.tensor('logits').narrow(1, 0, words));
    expect(model.config.imageTokenId).toBeLessThan(model.languageModel.vocabSize);
  });

  test.skipIf(python === undefined)(
    'transformers computes the same from what it has the parts of (needs a Python with transformers: TINYLLAVA_PYTHON)',
    async () => {
      const folders: string[] = [];
      for (const name of ['dialect-llava', 'llava-clip', 'llava-siglip', 'qwen2', 'gemma2']) {
        const target = join(scratch, `python-${name}`);
        await convert(reference(name).folder, target, { to: 'hf', dtype: 'float32' });
        const { model } = await loadCheckpoint(target);
        const { expected, ids, lengths } = reference(name);
        const input = expected.names.includes('pixel_values')
          ? batch(name, model, (await loadCheckpoint(reference(name).folder)).config.imageTokenId ?? 0)
          : { ids: ids(), lengths: lengths() };
        const tensors = {
          input_ids: tensor(input.ids),
          lengths: tensor(Int32Array.from(input.lengths)),
          logits: model.logits(model.hidden(input)),
          ...('pixels' in input && { pixel_values: input.pixels }),
        };
        writeSafetensors(join(target, 'expected.safetensors'), Object.entries(tensors));
        folders.push(target);
      }
      const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-python-loads.py', ...folders], { encoding: 'utf8' });
      expect(status, `${stdout}\n${stderr}`).toBe(0);
      expect(stdout.trim().split('\n')).toHaveLength(folders.length);
    },
    120_000,
  );

  const families = ['llava_next', 'llava_onevision', 'idefics3', 'smolvlm', 'internvl', 'internvl_odd'];

  test.each(families)('a %s stays one, key for key', async (family) => {
    const folder = reference(`views-${family}`).folder;
    const target = join(scratch, family);
    const { notes } = await convert(folder, target, { to: 'hf', template: 'chatml' });
    expect(notes).toEqual([]);
    expect(configOf(target)['model_type']).toBe(configOf(folder)['model_type']);
    expect(existsSync(join(target, 'generation_config.json'))).toBe(true);
    const { model } = await loadCheckpoint(target);
    const before = (await loadCheckpoint(folder)).model;
    expect(model.config).toEqual(before.config);
    for (const [i, weight] of [...model.parameters()].entries())
      expect(weight).toMatchTensor([...before.parameters()][i] ?? [], { atol: 0 });
  });

  test.skipIf(python === undefined)(
    'transformers shows the same views of images to models of other families (needs a Python with transformers: TINYLLAVA_PYTHON)',
    async () => {
      const folders: string[] = [];
      for (const family of families) {
        const source = reference(`views-${family}`).folder;
        const target = join(scratch, `python-${family}`);
        await convert(source, target, { to: 'hf', template: 'chatml' });
        for (const name of ['prompts.json', 'expected.safetensors']) cpSync(join(source, name), join(target, name));
        folders.push(target);
      }
      const images = join(reference('views-idefics3').folder, '../views-images');
      const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-python-views.py', images, ...folders], {
        encoding: 'utf8',
      });
      expect(status, `${stdout}\n${stderr}`).toBe(0);
    },
    120_000,
  );

  test('an image token is added to tokenizers without one, and the model answers by itself', async () => {
    const source = join(scratch, 'no-image-token');
    const { model, logits } = await tinyFolder(source, { vision: { type: 'clip', ...vit }, connector: { type: 'mlp' } }, { rows: 0 });
    const target = join(scratch, 'image-token');
    const { notes } = await convert(source, target, { to: 'hf', template: 'phi' });
    expect(notes).toEqual(['<image> has the id 428, and a row of the embeddings that is the mean of the others']);
    const answering = await loadModel(target);
    expect(answering.model.languageModel.vocabSize).toBe(429);
    expect(logits(answering.model)).toMatchTensor(logits(model), { atol: 0 });
    const { embedTokens, headWeight } = answering.model.languageModel as unknown as { embedTokens: { weight: Tensor }; headWeight: Tensor };
    for (const weight of [embedTokens.weight, headWeight]) expect(weight.select(0, 428)).toMatchTensor(weight.narrow(0, 0, 428).mean([0]));
    expect(configOf(target)).toMatchObject({ model_type: 'llava', image_token_index: 428 });
    expect((await Tokenizer.open(target)).idOf('<image>')).toBe(428);
  });

  test('parts that transformers lacks are named, and the folder is one of this package', async () => {
    const source = join(scratch, 'foreign');
    await tinyFolder(source, { vision: { type: 'siglip', ...vit }, connector: { type: 'pixel-shuffle', factor: 3 } });
    const { notes } = await convert(source, join(scratch, 'foreign-hf'), { to: 'hf' });
    expect(notes.slice(1)).toMatchInlineSnapshot(`
      [
        "<image> has the id 428",
        "transformers' LLaVA has no connector pixel-shuffle with these settings: the folder is one of tinyllava",
      ]
    `);
    expect(configOf(join(scratch, 'foreign-hf'))['model_type']).toBe('tinyllava');
  });

  test('--dtype converts the weights and says so', async () => {
    const target = join(scratch, 'half');
    const { stored } = await convert(reference('llava-siglip').folder, target, { to: 'hf', dtype: 'bfloat16' });
    const weights = openSafetensors(join(target, 'model.safetensors'));
    expect([stored, configOf(target)['dtype'], ...new Set(weights.names.map((name) => weights.dtype(name)))]).toEqual([
      'bfloat16',
      'bfloat16',
      'bfloat16',
    ]);
  });

  test('a GGUF file becomes a folder with its tokenizer', async () => {
    const target = join(scratch, 'from-gguf');
    await convert(withTokenizer('qwen2', scratch), join(scratch, 'qwen2.gguf'), { to: 'gguf', type: 'f32' });
    await convert(join(scratch, 'qwen2.gguf'), target, { to: 'hf' });
    const { expected, ids, lengths } = reference('qwen2');
    const { model } = await loadCheckpoint(target);
    expect(model.logits(model.hidden({ ids: ids(), lengths: lengths() }))).toMatchTensor(expected.tensor('logits'));
    expect(configOf(target)['model_type']).toBe('qwen2');
    expect((await Tokenizer.open(target)).tokenOf(44)).toBe((await Tokenizer.open(join(scratch, 'qwen2-bytes'))).tokenOf(44));
  });
});
