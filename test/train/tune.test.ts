import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { connectors } from '../../src/model/connector/index.ts';
import { languageModels } from '../../src/model/language/index.ts';
import type { PartConfig } from '../../src/model/part.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { visionTowers } from '../../src/model/vision/index.ts';
import type { Module } from '../../src/nn/module.ts';
import { LayerNorm } from '../../src/nn/norm.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { blockOf } from '../../src/train/blocks.ts';
import { parseRecipe, type Stage } from '../../src/train/recipe.ts';
import { parameterGroups, tune } from '../../src/train/tune.ts';
import { languageReferences, llamaReferences } from '../model/reference.ts';
import { tinyConnectors, tinyTowers } from '../model/tiny-parts.ts';

const language = { type: 'llama', vocabSize: 20, hiddenSize: 8, intermediateSize: 12, numHiddenLayers: 1, numAttentionHeads: 2 };
const made = (vision: PartConfig, connector: PartConfig): TinyLlava => createTinyLlava({ vision, connector, language, imageTokenId: 19 });

function stageOf(learns: object): Stage {
  const optimizer = { learningRate: 1, weightDecay: 0.1 };
  const stage = { name: 'a', learns, data: { conversations: 'a.json' }, optimizer, batchSize: 1, steps: 1 };
  const [parsed] = parseRecipe({ model: { from: 'a' }, stages: [stage] }).stages;
  return parsed as Stage;
}

/** Keys of what learns, by what a group says of it. */
function keysBy(
  model: TinyLlava,
  learns: object,
  of: (group: { learningRate: number; weightDecay: number }) => number,
): Map<number, string[]> {
  const stage = stageOf(learns);
  tune(model, stage);
  const found = new Map<number, string[]>();
  for (const group of parameterGroups(model, stage)) found.set(of(group), [...(found.get(of(group)) ?? []), ...group.parameters.keys()]);
  return found;
}

// Trainer.get_decay_parameter_names of transformers 5.23
const names = [/bias/, /layernorm/, /rmsnorm/, /(?:^|\.)norm(?:$|\.)/, /_norm(?:$|\.)/];
function* layerNorms(module: Module): Iterable<Tensor> {
  if (module instanceof LayerNorm) yield* module.parameters();
  for (const [, child] of module.children()) yield* layerNorms(child);
}
function undecayedByTrainer(model: TinyLlava): string[] {
  const normed = new Set(layerNorms(model));
  return Array.from(model.namedParameters()).flatMap(([key, tensor]) =>
    tensor.requiresGrad && (normed.has(tensor) || names.some((name) => name.test(key.toLowerCase()))) ? [key] : [],
  );
}

const full = { vision: 'full', connector: 'full', language: 'full' };
const undecayed = (model: TinyLlava, learns: object = full): string[] =>
  keysBy(model, learns, ({ weightDecay }) => weightDecay).get(0) ?? [];

const folders = [...languageReferences, ...llamaReferences];
test('references of every language model are there', () => {
  expect([...new Set(folders.map((name) => name.split('-')[0]))].sort()).toEqual(Object.keys(languageModels).sort());
});

test.each(folders)("weight decay leaves alone what Hugging Face's Trainer does in %s", async (name) => {
  const { model } = await loadCheckpoint(join(import.meta.dirname, '../reference', name));
  const found = undecayed(model, { language: 'full' });
  expect(found.sort()).toEqual(undecayedByTrainer(model).sort());
  expect(found.some((key) => /norm\.weight$/.test(key))).toBe(true);
});

const towers = Object.keys(visionTowers) as (keyof typeof visionTowers)[];
test.each(towers)("weight decay leaves alone what Hugging Face's Trainer does in %s", (name) => {
  const model = made(tinyTowers[name], { type: 'mlp' });
  const found = undecayed(model);
  // Trainer decays the gains of batch norms, which are none of its kinds.
  const batchNorms = found.filter((key) => /\._bn\d\.weight$/.test(key));
  expect(batchNorms.length > 0).toBe(name === 'efficientnet-lite');
  expect(found.filter((key) => !batchNorms.includes(key)).sort()).toEqual(undecayedByTrainer(model).sort());
});

test.each(Object.keys(connectors) as (keyof typeof connectors)[])(
  "weight decay leaves alone what Hugging Face's Trainer does in %s",
  (name) => {
    const model = made(tinyTowers[name === 'mof-mlp' ? 'mof' : 'siglip'], tinyConnectors[name].settings);
    expect(undecayed(model).sort()).toEqual(undecayedByTrainer(model).sort());
  },
);

test("a query transformer's own norm is not decayed", () => {
  const model = made(tinyTowers.siglip, { ...tinyConnectors.qformer.settings, queryNormAffine: true } as PartConfig);
  expect(undecayed(model)).toContain('model.multi_modal_projector.qformer.layernorm.weight');
});

test('rates fall towards the input in each of two towers, however deep the other is', () => {
  const { clip, dinov2 } = tinyTowers.mof as PartConfig & Record<'clip' | 'dinov2', object>;
  const model = made({ type: 'mof', clip, dinov2: { ...dinov2, numHiddenLayers: 3 } }, { type: 'mof-mlp' });
  const rates = keysBy(model, { vision: { tune: 'full', layerDecay: 0.5 } }, ({ learningRate }) => learningRate);
  const keys = (rate: number): string[] =>
    (rates.get(rate) ?? []).filter((key) => /class_embedding|cls_token|norm1\.weight|layernorm\.weight/.test(key));
  expect([1, 0.5, 0.25, 0.125].map((rate) => keys(rate).map((key) => key.replace('model.vision_tower.', '')))).toMatchInlineSnapshot(`
    [
      [
        "clip.vision_model.encoder.layers.1.layer_norm1.weight",
        "clip.vision_model.post_layernorm.weight",
        "dinov2.encoder.layer.2.norm1.weight",
        "dinov2.layernorm.weight",
      ],
      [
        "clip.vision_model.encoder.layers.0.layer_norm1.weight",
        "dinov2.encoder.layer.1.norm1.weight",
      ],
      [
        "clip.vision_model.embeddings.class_embedding",
        "dinov2.encoder.layer.0.norm1.weight",
      ],
      [
        "dinov2.embeddings.cls_token",
      ],
    ]
  `);
});

test('layers behind the features of a tower do not learn from a layer on', () => {
  const learnedFrom = (layer: number, tower: PartConfig = tinyTowers.clip): string[] =>
    keysBy(made(tower, { type: 'mlp' }), { vision: { tune: 'from-layer', layer } }, () => 0).get(0) ?? [];
  const blocksOf = (keys: readonly string[]) => [...new Set(keys.map(blockOf))];
  expect(blocksOf(learnedFrom(0))).toEqual([0]);
  expect(blocksOf(learnedFrom(0, { ...tinyTowers.clip, featureLayer: -1 }))).toEqual([0, 1]);
  expect(blocksOf(learnedFrom(1, tinyTowers['efficientnet-lite']))).toEqual([1]);
  expect(() => learnedFrom(1)).toThrow(
    expect.objectContaining({
      message: 'stage a: vision: from-layer: 1, but features are taken behind 1 of its 2 layers',
      hint: 'the last one is 0',
    }),
  );
});
