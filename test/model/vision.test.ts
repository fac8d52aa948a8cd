import { expect, test } from 'vitest';
import { loadCheckpoint, loadVisionTower } from '../../src/model/checkpoint.ts';
import { configToJson, visionFromJson } from '../../src/model/hugging-face.ts';
import { pick } from '../../src/model/registry.ts';
import { visionTowers } from '../../src/model/vision/index.ts';
import '../matchers.ts';
import { publishedTowers } from './published-towers.ts';
import { definedTowers, reference, towerReferences } from './reference.ts';

const atol = 1e-5;
test('every tower has references in usual and in odd sizes', async () => {
  const names = ['clip', 'siglip', ...towerReferences.map(([name]) => name), ...definedTowers];
  const types = await Promise.all(names.map(async (name) => (await loadVisionTower(reference(name).folder)).config.type));
  for (const type of Object.keys(visionTowers)) expect(types.filter((found) => found === type).length, type).toBeGreaterThan(1);
});

test.each(Object.entries(publishedTowers))('%s, as its file says, has its parameters to the unit', (name, published) => {
  const read = visionFromJson(published.json, name);
  const kind = pick(visionTowers, 'vision tower', read.type);
  const tower = kind.create(kind.parse({ ...read, ...published.overrides }, name), undefined);
  const { parameters, tokens, width } = published;
  expect([tower.parameterCount(), tower.tokens, tower.hiddenSize]).toEqual([parameters, tokens, width]);
});

test.each(towerReferences)('%s gives the hidden states of transformers', async (name, select) => {
  const { expected, folder } = reference(name);
  const pixels = expected.tensor('pixel_values');
  for (const layer of [0, 1, 2]) {
    const { tower } = await loadVisionTower(folder, { overrides: { ...select, featureLayer: layer } });
    expect(tower.forward(pixels), `layer ${layer}`).toMatchTensor(expected.tensor(`hidden.${layer}`), { atol });
  }
});

test.each(towerReferences)('%s gives several layers side by side', async (name, select) => {
  const { expected, folder } = reference(name);
  const { tower } = await loadVisionTower(folder, { overrides: { ...select, featureLayer: [-1, 0] } });
  const features = tower.forward(expected.tensor('pixel_values'));
  const width = tower.hiddenSize / 2;
  expect(features.narrow(2, 0, width)).toMatchTensor(expected.tensor('hidden.2'), { atol });
  expect(features.narrow(2, width, width)).toMatchTensor(expected.tensor('hidden.0'), { atol });
});

const resized = towerReferences.flatMap(([name, select, sizes]) => sizes.map((size) => [name, size, select] as const));

test.each(resized)('%s sees images of %i pixels as transformers does', async (name, inputSize, select) => {
  const { expected, folder } = reference(name);
  const { tower } = await loadVisionTower(folder, { overrides: { ...select, inputSize, featureLayer: -1 } });
  expect(tower.imageSize).toBe(inputSize);
  const features = tower.forward(expected.tensor(`pixel_values.${inputSize}`));
  expect(features).toMatchTensor(expected.tensor(`hidden.at.${inputSize}`), { atol });
  expect(features.shape[1]).toBe(tower.tokens);
});

test.each(towerReferences)('gradients of %s are those of transformers', async (name, select) => {
  const { expected, folder, gradients } = reference(name);
  const { tower } = await loadVisionTower(folder, { overrides: select });
  tower.trainable();
  tower.forward(expected.tensor('pixel_values')).mul(expected.tensor('probe')).sum().backward();
  const parameters = new Map(tower.namedParameters());
  expect(gradients().length).toBeGreaterThan(10);
  for (const key of gradients()) {
    const wanted = expected.tensor(`grad.${key}`);
    expect(parameters.get(key)?.grad, key).toMatchTensor(wanted, { atol: 1e-5 * Math.max(1, wanted.abs().amax().item()) });
  }
});

test.each([
  ['patch', 0, [4, 5, 6]],
  ['cls_patch', 1, [0, 4, 5]],
  ['register_patch', 3, [1, 2, 3]],
  ['full', 4, [0, 1, 2]],
] as const)('%s of a tower with registers keeps these tokens', async (select, extra, first) => {
  for (const name of ['vision-dinov2-registers-odd', 'vision-dinov3-odd']) {
    const { expected, folder } = reference(name);
    const { tower } = await loadVisionTower(folder, { overrides: { select } });
    const features = tower.forward(expected.tensor('pixel_values'));
    expect(tower.tokens).toBe(9 + extra);
    expect(features.shape).toEqual([2, tower.tokens, tower.hiddenSize]);
    for (const [row, token] of first.entries()) {
      expect(features.select(1, row)).toMatchTensor(expected.tensor('hidden.1').select(1, token), { atol });
    }
  }
});

test.each(definedTowers)('%s gives the features and gradients of its definition', async (name) => {
  const { expected, folder, gradients } = reference(name);
  const { tower } = await loadVisionTower(folder);
  tower.trainable();
  const pixels = expected.tensor('input').clone().requiresGrad_();
  const features = tower.forward(pixels);
  expect(features).toMatchTensor(expected.tensor('output'), { atol });
  expect(features.shape).toEqual([2, tower.tokens, tower.hiddenSize]);
  features.mul(expected.tensor('probe')).sum().backward();
  expect(pixels.grad).toMatchTensor(expected.tensor('grad_of_input'), { atol: 1e-4 });
  const parameters = new Map(tower.namedParameters());
  const reached = [...parameters].filter(([, { grad }]) => grad).map(([key]) => key);
  expect(gradients()).toEqual(reached.sort());
  for (const key of gradients()) expect(parameters.get(key)?.grad, key).toMatchTensor(expected.tensor(`grad.${key}`), { atol: 1e-4 });
});

test('an EfficientNet-Lite0 makes 49 tokens of 1280 with 3,371,008 parameters, and its statistics never learn', () => {
  const { 'efficientnet-lite': kind } = visionTowers;
  const tower = kind.create(kind.parse({ type: 'efficientnet-lite' }, 'vision'), undefined).trainable();
  expect([tower.tokens, tower.hiddenSize, tower.parameterCount(), tower.parameterCount({ trainable: true })]).toEqual([
    49, 1280, 3_371_008, 3_371_008,
  ]);
});

test.each(['llava-dinov2', 'llava-dinov2-registers', 'llava-dinov3'])(
  '%s agrees with transformers and goes back as it came',
  async (name) => {
    const { expected, folder, ids } = reference(name);
    const { model, config } = await loadCheckpoint(folder);
    const imageFeatures = model.encodeImages(expected.tensor('pixel_values'));
    expect(imageFeatures).toMatchTensor(expected.tensor('image_features'), { atol });
    const hidden = model.hidden({ ids: ids(), lengths: [ids().length], imageFeatures });
    expect(model.logits(hidden)).toMatchTensor(expected.tensor('logits'), { atol });
    expect(configToJson(config, { dtype: 'float32', imageTokens: model.imageTokens })['model_type']).toBe('llava');
  },
);

test('a SigLIP may end with the norm behind its last layer, and only there', async () => {
  const { expected, folder } = reference('vision-siglip-resized');
  const { tower, config } = await loadVisionTower(folder, { overrides: { featureLayer: -1, postNorm: true } });
  expect(tower.forward(expected.tensor('pixel_values'))).toMatchTensor(expected.tensor('last_hidden_state'), { atol });
  expect(visionTowers.siglip.inTransformers(config)).toBe(false);
  await expect(loadVisionTower(folder, { overrides: { postNorm: true } })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: siglip: the norm behind the last layer is for its features alone, got feature layer -2]`,
  );
});

test('the tower of a whole SigLIP 2 is found in its config.json', () => {
  const json = { model_type: 'siglip2', vision_config: { hidden_size: 12, num_attention_heads: 2, num_patches: 9 }, text_config: {} };
  expect(visionFromJson(json, 'config.json')).toMatchObject({
    type: 'siglip2',
    hiddenSize: 12,
    numPatches: 9,
    patchSize: 16,
    featureLayer: -2,
  });
  expect(() => visionFromJson({ ...json, vision_config: { num_patches: 10 } }, 'config.json')).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: config.json: vision_config.num_patches: must be a square number]`,
  );
});
