import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { connectors } from '../../src/model/connector/index.ts';
import { visionTowers } from '../../src/model/vision/index.ts';
import { arange, randn } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import '../matchers.ts';
import type { Json } from '../../src/model/part.ts';
import { reference } from './reference.ts';
import { tinyConnectors, tinyTowers } from './tiny-parts.ts';

test.each(Object.keys(visionTowers) as (keyof typeof visionTowers)[])(
  '%s turns each image into its tokens, whatever stands beside it',
  (name) => {
    const tower = visionTowers[name].create(visionTowers[name].parse(tinyTowers[name], 'vision'), undefined).initialize(new Generator(1));
    const pixels = randn([3, 3, tower.imageSize, tower.imageSize], { generator: new Generator(2) });
    const features = tower.forward(pixels);
    expect(features.shape).toEqual([3, tower.tokens, tower.hiddenSize]);
    expect(tower.forward(pixels.narrow(0, 1, 1))).toMatchTensor(features.narrow(0, 1, 1));
    expect(features.select(0, 0)).not.toMatchTensor(features.select(0, 1), { atol: 1e-3 });
    expect(() => tower.forward(pixels.narrow(2, 0, 8))).toThrow(/^expected \[B, channels=3, H=16, W=16\], got \[3, 3, 8, 16\]$/);
  },
);

test.each(Object.keys(visionTowers) as (keyof typeof visionTowers)[])(
  '%s sends gradients to every parameter that its features depend on',
  (name) => {
    const overrides = 'featureLayer' in visionTowers[name].parse(tinyTowers[name], 'vision') ? { featureLayer: -1 } : {};
    const tower = visionTowers[name].create(visionTowers[name].parse({ ...tinyTowers[name], ...overrides }, 'vision'), undefined);
    tower.initialize(new Generator(1)).trainable();
    tower
      .forward(randn([2, 3, 16, 16], { generator: new Generator(2) }))
      .square()
      .sum()
      .backward();
    const without = Array.from(tower.namedParameters()).filter(([, { grad }]) => grad === undefined);
    // Weights of pooling and pre-training that no feature runs through.
    expect(
      without.filter(
        ([key]) =>
          !/^(clip\.|dinov2\.)?(vision_model\.(post_layernorm|head)\.|(layernorm|norm)\.|embeddings\.mask_token)|\.running_(mean|var)$/.test(
            key,
          ),
      ),
    ).toEqual([]);
  },
);

test('layers behind the feature are not run', () => {
  const tower = visionTowers.siglip.create(visionTowers.siglip.parse({ ...tinyTowers.siglip, featureLayer: 1 }, 'vision'), undefined);
  tower.initialize(new Generator(1)).trainable();
  tower
    .forward(randn([1, 3, 16, 16]))
    .sum()
    .backward();
  const touched = Array.from(tower.namedParameters()).filter(([key, { grad }]) => key.includes('layers.1.') && grad !== undefined);
  expect(touched).toEqual([]);
});

test('a feature layer that is not there is refused', () => {
  const { siglip } = visionTowers;
  const make = (featureLayer: number): unknown => siglip.create(siglip.parse({ ...tinyTowers.siglip, featureLayer }, 'vision'), undefined);
  expect(() => make(3)).toThrow('feature layer 3 of a tower with 2 layers');
  expect(() => make(-4)).toThrow('feature layer -4 of a tower with 2 layers');
});

test('a SigLIP whose LLaVA says `default` loses its first patch as in transformers', async () => {
  const { folder, expected } = reference('llava-siglip');
  const changed = mkdtempSync(join(tmpdir(), 'tinyllava-parts-'));
  cpSync(folder, changed, { recursive: true });
  const json = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Json;
  writeFileSync(join(changed, 'config.json'), JSON.stringify({ ...json, vision_feature_select_strategy: 'default' }));
  const { model } = await loadCheckpoint(changed);
  rmSync(changed, { recursive: true });
  expect(model.imageTokens).toBe(3);
  expect(model.encodeImages(expected.tensor('pixel_values'))).toMatchTensor(expected.tensor('image_features.first_patch_dropped'));
});

test.each(Object.keys(connectors) as (keyof typeof connectors)[])('%s maps features to the width of the language model', (name) => {
  const languageSize = name === 'identity' ? 6 : 10;
  const connector = connectors[name].create(connectors[name].parse(tinyConnectors[name].settings, 'connector'), {
    visionSize: 6,
    visionTokens: 16,
    languageSize,
  });
  connector.initialize(new Generator(1));
  const features = randn([2, 16, 6], { generator: new Generator(2) });
  const embeddings = connector.forward(features);
  expect(embeddings.shape).toEqual([2, connector.tokens(16), languageSize]);
  expect(connector.forward(features.narrow(0, 1, 1))).toMatchTensor(embeddings.narrow(0, 1, 1));
});

test('pixel-shuffle puts the four tokens of a square side by side', () => {
  const { 'pixel-shuffle': kind } = connectors;
  const context = { visionSize: 1, visionTokens: 16, languageSize: 4 };
  const connector = kind
    .create(kind.parse({ type: 'pixel-shuffle', layers: 1, bias: false }, 'connector'), context)
    .initialize(new Generator(1));
  for (const weight of connector.parameters()) weight.copy_(arange(4).unsqueeze(1).eq(arange(4)).cast('float32'));
  // A grid of 4 x 4 tokens with the values 0..15.
  expect(connector.forward(arange(16).cast('float32').view(1, 16, 1))).toMatchTensor([
    0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
  ]);
  expect(() => kind.create(kind.parse({ type: 'pixel-shuffle' }, 'connector'), { ...context, visionTokens: 9 })).toThrow(
    'pixel-shuffle by 2 of 9 tokens, which make no square of a side that divides by it',
  );
});

test('the identity joins equal widths only', () => {
  const context = { visionSize: 6, visionTokens: 4, languageSize: 8 };
  expect(() => connectors.identity.create({ type: 'identity' }, context)).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: the identity connector joins equal widths, got features of 6 and a language model of 8]`,
  );
});

test('a perceptron of three layers has the keys linear_1 to linear_3', () => {
  const context = { visionSize: 6, visionTokens: 4, languageSize: 8 };
  const connector = connectors.mlp.create(connectors.mlp.parse({ type: 'mlp', layers: 3, bias: false }, 'connector'), context);
  expect(Array.from(connector.namedParameters(), ([key]) => key)).toEqual(['linear_1.weight', 'linear_2.weight', 'linear_3.weight']);
});

test('a tower gives back everything but its result', () => {
  const tower = visionTowers.clip.create(visionTowers.clip.parse({ ...tinyTowers.clip, featureLayer: [0, 1, -1] }, 'vision'), undefined);
  tower.initialize(new Generator(1));
  const pixels = randn([2, 3, 16, 16]);
  const before = liveTensors();
  {
    using _scope = new Scope();
    tower.forward(pixels);
  }
  expect(liveTensors()).toBe(before);
});
