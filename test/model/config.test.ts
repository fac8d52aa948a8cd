import { expect, test } from 'vitest';
import { TinyLlavaError } from '../../src/errors.ts';
import { parseConfig, parts } from '../../src/model/config.ts';
import { configFromJson, configToJson, visionFromJson } from '../../src/model/hugging-face.ts';
import type { Json } from '../../src/model/part.ts';
import { pick } from '../../src/model/registry.ts';

function failure(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    const hint = error instanceof TinyLlavaError && error.hint ? `\nhint: ${error.hint}` : '';
    return `${(error as Error).name}: ${(error as Error).message}${hint}`;
  }
  throw new Error('did not fail');
}

const minimal = { vision: { type: 'siglip' }, connector: { type: 'mlp' }, language: { type: 'llama' }, imageTokenId: 7 };

test('defaults are filled in and the result reads back as itself', () => {
  const config = parseConfig(minimal);
  expect(config.vision).toMatchObject({ hiddenSize: 768, patchSize: 16, featureLayer: -2, dropFirstPatch: false });
  expect(config.connector).toEqual({ type: 'mlp', layers: 2, hiddenAct: 'gelu', bias: true });
  expect(config.language).toMatchObject({
    vocabSize: 32_000,
    tieWordEmbeddings: false,
    ropeParameters: { ropeType: 'default', ropeTheta: 10_000 },
  });
  expect(parseConfig(config)).toEqual(config);
  expect(parseConfig({ language: { type: 'llama' } })).toEqual({ language: config.language });
});

test('every mistake is told with its path', () => {
  expect(
    failure(() => parseConfig({ ...minimal, vision: { type: 'siglip', hiddenSize: 1.5, hiden: 3, hiddenAct: 'gelu_nwe' } })),
  ).toMatchInlineSnapshot(`
    "ConfigError: vision.hiddenSize: Invalid input: expected int, received number, got 1.5
    vision.hiddenAct: Invalid option: expected one of "gelu"|"gelu_pytorch_tanh"|"gelu_new"|"quick_gelu"|"silu"|"swish"|"relu", got "gelu_nwe"
    vision: Unrecognized key: "hiden""
  `);
  expect(failure(() => parseConfig({ ...minimal, connector: { type: 'mpl' } }))).toMatchInlineSnapshot(`
    "ConfigError: unknown connector "mpl"
    hint: did you mean "mlp"? known: identity, linear, mlp, pixel-shuffle, pixel-shuffle-mlp, ldp-v2, c-abstractor, resampler, qformer, mof-mlp, class-words"
  `);
  expect(failure(() => parseConfig({ ...minimal, langauge: {} }))).toMatchInlineSnapshot(
    `"ConfigError: model: Unrecognized key: "langauge""`,
  );
  expect(failure(() => parseConfig({ vision: { type: 'clip' }, language: { type: 'llama' } }))).toMatchInlineSnapshot(`
    "ConfigError: model: connector and imageTokenId missing
    hint: a model that sees needs vision, connector and imageTokenId"
  `);
  expect(failure(() => parseConfig({ language: { type: 'llama', numAttentionHeads: 6, numKeyValueHeads: 4 } }))).toMatchInlineSnapshot(`
    "ConfigError: language: hiddenSize must divide into numAttentionHeads heads of an even size, unless headDim is given
    language: numAttentionHeads must be a multiple of numKeyValueHeads"
  `);
});

test('picking proposes a near name and none for a far one', () => {
  expect(failure(() => pick(parts.visionTowers, 'vision tower', 'siglp'))).toMatchInlineSnapshot(`
    "ConfigError: unknown vision tower "siglp"
    hint: did you mean "siglip"? known: clip, siglip, siglip2, dinov2, dinov2-registers, dinov3, internvl, mof, efficientnet-lite, conv-vit"
  `);
  expect(failure(() => pick(parts.visionTowers, 'vision tower', 'resnet-50'))).toMatchInlineSnapshot(`
    "ConfigError: unknown vision tower "resnet-50"
    hint: known: clip, siglip, siglip2, dinov2, dinov2-registers, dinov3, internvl, mof, efficientnet-lite, conv-vit"
  `);
  expect(failure(() => pick(parts.visionTowers, 'vision tower', 'toString'))).toMatchInlineSnapshot(`
    "ConfigError: unknown vision tower "toString"
    hint: known: clip, siglip, siglip2, dinov2, dinov2-registers, dinov3, internvl, mof, efficientnet-lite, conv-vit"
  `);
});

test('a config.json of LLaVA-1.5, which names only what differs, means what transformers makes of it', () => {
  const json = {
    model_type: 'llava',
    image_token_index: 32_000,
    text_config: { model_type: 'llama', max_position_embeddings: 4096, rms_norm_eps: 1e-5, torch_dtype: 'float16', vocab_size: 32_064 },
    tie_word_embeddings: false,
    vision_config: {
      hidden_size: 1024,
      image_size: 336,
      intermediate_size: 4096,
      num_attention_heads: 16,
      num_hidden_layers: 24,
      patch_size: 14,
    },
  };
  const config = configFromJson(json, 'config.json');
  expect(config.imageTokenId).toBe(32_000);
  expect(config.connector).toEqual({ type: 'mlp', layers: 2, hiddenAct: 'gelu', bias: true });
  expect(config.vision).toMatchObject({ type: 'clip', hiddenAct: 'quick_gelu', layerNormEps: 1e-5, featureLayer: -2, select: 'patch' });
  expect(config.language).toMatchObject({
    hiddenSize: 4096,
    numHiddenLayers: 32,
    rmsNormEps: 1e-5,
    vocabSize: 32_064,
    tieWordEmbeddings: false,
  });
  const bare = configFromJson({ model_type: 'llava' }, 'config.json');
  expect(bare.vision).toEqual(config.vision);
});

test.each([
  [
    { rope_theta: 5e5, rope_scaling: { type: 'linear', factor: 2 } },
    { ropeType: 'linear', ropeTheta: 5e5, factor: 2 },
  ],
  [
    { rope_theta: 5e5, rope_scaling: null },
    { ropeType: 'default', ropeTheta: 5e5 },
  ],
  [{ rope_parameters: { rope_type: 'default', rope_theta: 3e4 } }, { ropeType: 'default', ropeTheta: 3e4 }],
  [{}, { ropeType: 'default', ropeTheta: 1e4 }],
  [
    { max_position_embeddings: 99, rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 } },
    { ropeType: 'llama3', ropeTheta: 1e4, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 99 },
  ],
] as [Json, Json][])('rotary settings %j in a config.json', (fields, ropeParameters) => {
  const { language } = configFromJson({ model_type: 'llama', ...fields }, 'config.json');
  expect(language['ropeParameters']).toEqual(ropeParameters);
});

test('rotary settings that would be computed wrongly are refused', () => {
  const dynamic = { model_type: 'llama', rope_scaling: { type: 'dynamic', factor: 2 } };
  expect(failure(() => configFromJson(dynamic, 'config.json'))).toMatchInlineSnapshot(
    `"ConfigError: config.json: rope_parameters.rope_type: Invalid discriminator value. Expected 'default' | 'linear' | 'llama3', got "dynamic""`,
  );
  const partial = { model_type: 'llama', rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } };
  expect(failure(() => configFromJson(partial, 'config.json'))).toMatchInlineSnapshot(
    `"ConfigError: config.json: rope_parameters: Unrecognized key: "partialRotaryFactor""`,
  );
});

test('tied embeddings are told by either level of a config.json', () => {
  const tied = (json: Json): unknown => configFromJson({ model_type: 'llava', ...json }, 'config.json').language['tieWordEmbeddings'];
  expect(tied({ tie_word_embeddings: true })).toBe(true);
  expect(tied({ text_config: { tie_word_embeddings: true }, tie_word_embeddings: false })).toBe(true);
  expect(tied({ text_config: {} })).toBe(false);
});

test('SigLIP keeps every patch unless a LLaVA says `default`, which drops the first in transformers, too', () => {
  const siglip = { model_type: 'siglip_vision_model' };
  expect(visionFromJson(siglip, 'config.json')['dropFirstPatch']).toBe(false);
  expect(visionFromJson({ model_type: 'siglip', vision_config: {} }, 'config.json')['dropFirstPatch']).toBe(false);
  expect(visionFromJson({ model_type: 'llava', vision_config: siglip }, 'config.json')['dropFirstPatch']).toBe(true);
  const full = { model_type: 'llava', vision_config: siglip, vision_feature_select_strategy: 'full', vision_feature_layer: [-1, 3] };
  expect(visionFromJson(full, 'config.json')).toMatchObject({ dropFirstPatch: false, featureLayer: [-1, 3] });
});

test('parts that transformers cannot know make a config.json of our own kind, and both kinds read back', () => {
  const modelTypes = [
    minimal,
    { ...minimal, connector: { type: 'mlp', layers: 3 } },
    { ...minimal, connector: { type: 'linear', bias: false } },
    { ...minimal, vision: { type: 'conv-vit' }, connector: { type: 'pixel-shuffle', factor: 4 } },
    { ...minimal, vision: { type: 'clip', select: 'cls_patch', featureLayer: [2, -2] } },
  ].map((settings) => {
    const config = parseConfig(settings);
    const json = configToJson(config, { dtype: 'bfloat16', imageTokens: 9 });
    expect(configFromJson(JSON.parse(JSON.stringify(json)) as Json, 'config.json')).toEqual(config);
    return json['model_type'];
  });
  expect(modelTypes).toEqual(['llava', 'tinyllava', 'tinyllava', 'tinyllava', 'llava']);
});
