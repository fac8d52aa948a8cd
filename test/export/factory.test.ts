import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { convert } from '../../src/export/convert.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { openFolder } from '../../src/model/dialects/folder.ts';
import type { Json, PartConfig } from '../../src/model/part.ts';
import '../matchers.ts';
import { reference } from '../model/reference.ts';
import { llama, scratchFolder, type Tiny, tinyFolder, vit } from './models.ts';

const scratch = scratchFolder();
const configOf = (folder: string): Json => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Json;

const dino = { hiddenSize: 64, numHiddenLayers: 2, numAttentionHeads: 1, imageSize: 12, patchSize: 4 };
const qformer = { hiddenSize: 64, intermediateSize: 48, numHiddenLayers: 2, numAttentionHeads: 1, numQueries: 3, queryNormAffine: false };
const clip = { type: 'clip', ...vit };
const mof = { type: 'mof', clip: vit, dinov2: { ...dino, mlpRatio: 2 } };

/** Models that Factory can express, and what its config.json says of them. */
const expressible: Readonly<Record<string, Tiny & { readonly says: Json }>> = {
  'clip and two layers': {
    vision: clip,
    connector: { type: 'mlp' },
    says: { connector_type: 'mlp2x_gelu', vision_feature_select_strategy: 'patch', vision_feature_layer: -2 },
  },
  'clip with its class token and three layers': {
    vision: { ...clip, select: 'cls_patch', featureLayer: -1 },
    connector: { type: 'mlp', layers: 3 },
    says: { connector_type: 'mlp3x_gelu', vision_feature_select_strategy: 'cls_patch', vision_feature_layer: -1 },
  },
  'siglip with all patches': {
    vision: { type: 'siglip', ...vit },
    connector: { type: 'linear' },
    says: { connector_type: 'linear', vision_feature_select_strategy: 'cls_patch' },
  },
  'siglip without the first patch': {
    vision: { type: 'siglip', ...vit, dropFirstPatch: true },
    connector: { type: 'identity' },
    says: { connector_type: 'identity', vision_feature_select_strategy: 'patch' },
  },
  'dinov2 and a resampler': {
    vision: { type: 'dinov2', ...dino },
    connector: { type: 'resampler', numQueries: 3, numLayers: 2 },
    says: { connector_type: 'resampler', num_queries: 3, num_resampler_layers: 2, vision_feature_select_strategy: 'patch' },
  },
  'clip and a q-former': {
    vision: clip,
    connector: { type: 'qformer', ...qformer },
    says: { connector_type: 'qformer', num_queries: 3 },
  },
  'clip and dinov2 together': {
    vision: mof,
    connector: { type: 'mof-mlp', clipSize: 64 },
    says: { connector_type: 'mof_mlp', vision_hidden_size: 64, vision_model_name_or_path2: 'mof:facebook/dinov2-large' },
  },
  'a phi': {
    vision: clip,
    connector: { type: 'mlp' },
    language: { ...llama, type: 'phi', hiddenSize: 64 },
    says: { llm_model_name_or_path: 'microsoft/phi-2' },
  },
  'an openelm': {
    vision: clip,
    connector: { type: 'mlp' },
    language: { type: 'openelm', modelDim: 64, headDim: 16, numTransformerLayers: 2, ffnDimDivisor: 16 },
    says: { hidden_size: 64, text_config: expect.objectContaining({ model_type: 'openelm' }) },
  },
};

describe('to factory-v1', () => {
  test.each(Object.entries(expressible))('%s comes back with the same logits', async (name, { says, ...tiny }) => {
    const [source, target] = [join(scratch, name), join(scratch, `${name} in factory`)];
    const { model, logits } = await tinyFolder(source, tiny);
    await convert(source, target, { to: 'factory-v1' });
    expect(configOf(target)).toMatchObject({ model_type: 'tinyllava', image_token_index: -200, ignore_index: -100, ...says });
    const read = await loadCheckpoint(target);
    expect(logits(read.model)).toMatchTensor(logits(model), { atol: 0 });
  });

  test.each(['dialect-factory', 'dialect-factory-mof', 'dialect-factory-qformer', 'dialect-factory-pretrain'])(
    '%s has the keys and the fields that Factory wrote',
    async (name) => {
      const { folder } = reference(name);
      const target = join(scratch, name);
      await convert(folder, target, { to: 'factory-v1' });
      // a head that is the embeddings is written once
      const tied = (configOf(folder)['text_config'] as Json)['tie_word_embeddings'] === true;
      const written = openFolder(folder).names.filter((key) => !(tied && key === 'language_model.lm_head.weight'));
      expect([...openFolder(target).names].sort()).toEqual([...written].sort());
      const { text_config: _text, vision_config: _vision, num_queries, num_resampler_layers: _layers, ...fields } = configOf(folder);
      expect(configOf(target)).toMatchObject({ ...fields, ...(/pretrain|qformer/.test(name) && { num_queries }) });
      expect(Object.keys(configOf(target)).sort()).toEqual(Object.keys(configOf(folder)).sort());
    },
  );

  const refusals: Readonly<Record<string, Tiny>> = {
    'a connector': { vision: clip, connector: { type: 'pixel-shuffle', factor: 3 } },
    'a tower': {
      vision: {
        type: 'siglip2',
        hiddenSize: 64,
        intermediateSize: 48,
        numHiddenLayers: 1,
        numAttentionHeads: 1,
        numPatches: 9,
        patchSize: 4,
      },
      connector: { type: 'mlp' },
    },
    'a language model': { vision: clip, connector: { type: 'mlp' }, language: { ...llama, type: 'qwen3', numKeyValueHeads: 1 } },
    'scaled positions': {
      vision: clip,
      connector: { type: 'mlp' },
      language: { ...llama, ropeParameters: { ropeType: 'linear', ropeTheta: 10_000, factor: 2 } },
    },
    'wide heads': { vision: clip, connector: { type: 'mlp' }, language: { ...llama, headDim: 16 } },
    'several layers': { vision: { ...clip, featureLayer: [-2, -1] }, connector: { type: 'mlp' } },
    'an activation': { vision: clip, connector: { type: 'mlp', hiddenAct: 'silu' } },
    'a narrow resampler': { vision: clip, connector: { type: 'resampler', numQueries: 3, numAttentionHeads: 2 } },
    'a norm behind': { vision: { type: 'siglip', ...vit, featureLayer: -1, postNorm: true } as PartConfig, connector: { type: 'mlp' } },
  };

  test('what Factory cannot express is refused by name', async () => {
    const found: Record<string, string> = {};
    for (const [name, tiny] of Object.entries(refusals)) {
      const source = join(scratch, name);
      await tinyFolder(source, tiny);
      const failure = convert(source, join(scratch, 'refused'), { to: 'factory-v1' });
      found[name] = await failure.then(
        () => 'converted',
        (error: TinyLlavaError) => error.message,
      );
    }
    expect(found).toMatchInlineSnapshot(`
      {
        "a connector": "factory-v1: TinyLLaVA Factory 1 has no connector pixel-shuffle",
        "a language model": "factory-v1: TinyLLaVA Factory 1 has no language model qwen3",
        "a narrow resampler": "factory-v1: TinyLLaVA Factory 1 cannot express connector.numAttentionHeads 2",
        "a norm behind": "factory-v1: TinyLLaVA Factory 1 cannot express vision.postNorm true",
        "a tower": "factory-v1: TinyLLaVA Factory 1 has no vision tower siglip2",
        "an activation": "factory-v1: TinyLLaVA Factory 1 cannot express connector.hiddenAct "silu"",
        "scaled positions": "factory-v1: TinyLLaVA Factory 1 has no rotary positions scaled by linear",
        "several layers": "factory-v1: TinyLLaVA Factory 1 has no features of several layers ([-2,-1])",
        "wide heads": "factory-v1: TinyLLaVA Factory 1 has no heads of a width of their own (language.headDim 16)",
      }
    `);
  });
});
