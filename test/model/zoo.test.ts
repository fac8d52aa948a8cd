import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { connectors } from '../../src/model/connector/index.ts';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { visionTowers } from '../../src/model/vision/index.ts';
import { backwardByLayers } from '../../src/nn/layers.ts';
import { randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { tinyConnectors, tinyTowers } from './tiny-parts.ts';

const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-zoo-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const imageTokenId = 19;
const towerNames = Object.keys(visionTowers) as (keyof typeof visionTowers)[];
const pairs = towerNames.flatMap((tower) => (Object.keys(connectors) as (keyof typeof connectors)[]).map((name) => [tower, name] as const));

function build(tower: keyof typeof visionTowers, connector: keyof typeof connectors): TinyLlava {
  const hiddenSize = tower === 'mof' ? 16 : 8; // what the identity passes on
  return createTinyLlava({
    vision: tinyTowers[tower],
    connector: tinyConnectors[connector].settings,
    language: { type: 'llama', vocabSize: 20, hiddenSize, intermediateSize: 12, numHiddenLayers: 1, numAttentionHeads: 2 },
    imageTokenId,
  }).initialize(new Generator(1));
}

/** Two sequences, each a word, an image and a word. */
function batch(model: TinyLlava): { ids: Int32Array; lengths: number[]; pixels: ReturnType<typeof randn> } {
  const sequence = [3, ...new Array<number>(model.imageTokens).fill(imageTokenId), 4];
  const pixels = randn([2, 3, 16, 16], { generator: new Generator(2) });
  return { ids: Int32Array.from([...sequence, ...sequence]), lengths: [sequence.length, sequence.length], pixels };
}

test.each(pairs)('%s with %s answers, learns, and comes back out of a folder as it went in', async (tower, connector) => {
  const model = build(tower, connector);
  expect(model.imageTokens).toBe(tinyConnectors[connector].tokens);
  const input = batch(model);
  expect(model.encodeImages(input.pixels).shape).toEqual([2, model.imageTokens, model.languageModel.hiddenSize]);
  const logits = model.logits(model.hidden(input));

  const folder = join(scratch, `${tower}-${connector}`);
  await saveCheckpoint(folder, model);
  const loaded = await loadCheckpoint(folder);
  expect(loaded.config).toEqual(model.config);
  expect(loaded.model.logits(loaded.model.hidden(input))).toMatchTensor(logits, { atol: 0 });

  model.trainable();
  model.logits(model.hidden(input)).square().mean().backward();
  const learning = [...(model.connector?.namedParameters() ?? [])].filter(([, { requiresGrad }]) => requiresGrad);
  const still = learning.filter(([, { grad }]) => !grad || grad.abs().amax().item() === 0);
  // A key's bias moves all scores of a query alike.
  expect(still.map(([key]) => key).filter((key) => !/key\.bias$/.test(key))).toEqual([]);
  const moved = [...(model.visionTower?.parameters() ?? [])].filter(({ grad }) => grad && grad.abs().amax().item() > 0);
  expect(moved.length).toBeGreaterThan(6);
});

test.each(pairs.filter(([tower, name]) => name === 'linear' || tower === 'siglip'))(
  '%s with %s in bfloat16 stays near float32',
  async (tower, connector) => {
    const model = build(tower, connector);
    const { pixels } = batch(model);
    const wanted = model.encodeImages(pixels);
    const folder = join(scratch, `bf16-${tower}-${connector}`);
    await saveCheckpoint(folder, model);
    const { model: half } = await loadCheckpoint(folder, { dtype: 'bfloat16' });
    const features = half.encodeImages(pixels);
    expect(features.dtype).toBe('bfloat16');
    expect(features.cast('float32').sub(wanted).norm().item() / wanted.norm().item()).toBeLessThan(0.03);
  },
);

test.each(pairs.filter(([tower, name]) => name === 'resampler' || tower === 'dinov3'))(
  '%s with %s has the same gradients when layers are computed again',
  (tower, connector) => {
    const model = build(tower, connector).trainable();
    const input = batch(model);
    const loss = (): Tensor => model.logits(model.hidden(input)).square().mean();
    loss().backward();
    const wanted = Array.from(model.namedParameters(), ([key, { grad }]) => [key, grad?.clone()] as const);
    for (const parameter of model.parameters()) parameter.grad = undefined;
    backwardByLayers(loss, { recompute: true });
    const found = new Map(model.namedParameters());
    for (const [key, grad] of wanted) {
      if (grad) expect(found.get(key)?.grad, key).toMatchTensor(grad, { atol: 1e-6 });
      else expect(found.get(key)?.grad, key).toBeUndefined();
    }
  },
);

test.each(['patch', 'cls_patch', 'register_patch', 'full'])('registers selected as %s survive config.json', async (select) => {
  for (const type of ['dinov2-registers', 'dinov3'] as const) {
    const kind = visionTowers[type];
    const config = kind.parse({ ...tinyTowers[type], select, featureLayer: [-1, 0] }, 'vision');
    const json = kind.toJson(config);
    expect(kind.fromJson(json, type, { file: 'config.json' })).toEqual(config);
    expect(kind.inTransformers(config)).toBe(select === 'register_patch' || select === 'full');
  }
});

test('CLIP and DINOv2 that make different numbers of tokens are refused', () => {
  const { mof } = visionTowers;
  const config = mof.parse({ ...tinyTowers.mof, clip: { ...(tinyTowers.mof['clip'] as object), patchSize: 8 } }, 'vision');
  expect(() => mof.create(config, undefined)).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: mof: CLIP makes 4 tokens of an image of 16 pixels, DINOv2 16]`,
  );
});
