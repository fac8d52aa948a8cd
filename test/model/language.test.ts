import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { configFromJson } from '../../src/model/hugging-face.ts';
import { languageModels } from '../../src/model/language/index.ts';
import type { Json } from '../../src/model/part.ts';
import { createTinyLlava } from '../../src/model/tinyllava.ts';
import { cat, indices, randn } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { crossEntropy } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import { openWeights } from '../../src/tensor/weight-files.ts';
import '../matchers.ts';
import { published } from './published.ts';
import { languageReferences, nextTokens, reference } from './reference.ts';

const atol = 1e-5;
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-language-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** The families, each by the smaller of its two references. */
const families = languageReferences.filter((name) => !name.includes('-'));

test('every family has references in usual and in odd sizes', () => {
  expect(families).toEqual(
    Object.keys(languageModels)
      .filter((name) => name !== 'llama')
      .sort(),
  );
  for (const family of families) expect(languageReferences.filter((name) => name.startsWith(`${family}-`))).toHaveLength(1);
});

test.each(languageReferences)('%s agrees with the reference in logits, loss and gradients', async (name) => {
  const ref = reference(name);
  const { model } = await loadCheckpoint(ref.folder);
  model.trainable();
  const hidden = model.hidden({ ids: ref.ids(), lengths: ref.lengths() });
  expect(model.logits(hidden)).toMatchTensor(ref.expected.tensor('logits'), { atol });
  const { from, to } = nextTokens(ref.lengths());
  const wanted = model.hidden({ ids: ref.ids(), lengths: ref.lengths(), wanted: from });
  const loss = crossEntropy(model.logits(wanted), ref.labels().indexSelect(0, indices(to)));
  expect(loss.reshape(1)).toMatchTensor(ref.expected.tensor('loss'), { atol });
  loss.backward();
  const parameters = new Map(model.namedParameters());
  expect(ref.gradients().length).toBeGreaterThan(4);
  for (const key of ref.gradients()) expect(parameters.get(key)?.grad, key).toMatchTensor(ref.expected.tensor(`grad.${key}`), { atol });
});

test.each(languageReferences)('%s with caches gives what it gives at once', async (name) => {
  const ref = reference(name);
  const { model } = await loadCheckpoint(ref.folder);
  const [ids, lengths] = [ref.ids(), ref.lengths()];
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0));
  const full = model.hidden({ ids, lengths });
  // The longest sequence begins behind the length up to which rotary settings differ, as its prompt does in the reference.
  const caches = lengths.map(() => model.languageModel.createCache({ capacity: 2 }));
  const prompts = lengths.map((length) => Math.max(1, length - 5));
  const pieces = lengths.map(() => [] as ReturnType<typeof model.hidden>[]);
  const seen = lengths.map(() => 0);
  for (const step of [prompts, ...[2, 1, 1, 1].map((count) => lengths.map(() => count))]) {
    const counts = lengths.map((length, i) => Math.min(step[i] ?? 0, length - (seen[i] ?? 0)));
    const chunk = counts.flatMap((count, i) => Array.from(ids.slice((starts[i] ?? 0) + (seen[i] ?? 0)).slice(0, count)));
    const y = model.hidden({ ids: Int32Array.from(chunk), lengths: counts, caches });
    for (const [i, rows] of y.split(counts).entries()) pieces[i]?.push(rows);
    for (const [i, count] of counts.entries()) seen[i] = (seen[i] ?? 0) + count;
  }
  expect(seen).toEqual(lengths);
  expect(cat(pieces.flat())).toMatchTensor(full, { atol });
  const last = lengths.map((length, i) => (starts[i] ?? 0) + length - 1);
  const fresh = lengths.map(() => model.languageModel.createCache());
  expect(model.hidden({ ids, lengths, caches: fresh, wanted: last })).toMatchTensor(full.indexSelect(0, indices(last)), { atol });
  expect(fresh.map(({ length }) => length)).toEqual(lengths);
  expect(model.hidden({ ids, lengths, wanted: [] }).shape).toEqual([0, model.languageModel.hiddenSize]);
});

test.each(languageReferences)('%s goes out and comes back the same, under the keys and settings of the reference', async (name) => {
  const { folder } = reference(name);
  const { model, config } = await loadCheckpoint(folder);
  const target = join(scratch, name);
  await saveCheckpoint(target, model);
  const back = await loadCheckpoint(target);
  expect(back.config).toEqual(config);
  expect([...openWeights(target).names].sort()).toEqual([...openWeights(folder).names].sort());
  const saved = new Map(back.model.namedParameters());
  for (const [key, tensor] of model.namedParameters()) expect(saved.get(key), key).toMatchTensor(tensor, { atol: 0 });
  const read = (path: string): Json => JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as Json;
  const [theirs, ours] = [read(folder), read(target)];
  for (const [key, value] of Object.entries(theirs)) if (key in ours && value !== null) expect(ours[key], key).toEqual(value);
});

const vision = {
  type: 'siglip',
  hiddenSize: 8,
  intermediateSize: 12,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  imageSize: 8,
  patchSize: 4,
};

test.each(languageReferences)('%s is the language model of a LLaVA, saved and loaded', async (name) => {
  const { config } = await loadCheckpoint(reference(name).folder);
  const settings = { ...config, vision: { ...vision, visionUseHead: false }, connector: { type: 'mlp' }, imageTokenId: 44 };
  const model = createTinyLlava(settings).initialize(new Generator(1));
  const batch = { ids: Int32Array.of(1, 44, 44, 44, 44, 2, 3), lengths: [6, 1], pixels: randn([1, 3, 8, 8]) };
  const before = liveTensors();
  {
    using _scope = new Scope();
    model.hidden(batch);
  }
  expect(liveTensors()).toBe(before);
  const target = join(scratch, `llava-${name}`);
  await saveCheckpoint(target, model);
  const back = await loadCheckpoint(target);
  expect(back.config).toEqual(model.config);
  expect(back.model.logits(back.model.hidden(batch))).toMatchTensor(model.logits(model.hidden(batch)), { atol: 0 });
  const text = (JSON.parse(readFileSync(join(target, 'config.json'), 'utf8')) as Record<string, Json>)['text_config'];
  expect(text?.['model_type']).toBe(config.language.type);
});

test.each(languageReferences)('%s in bfloat16 stays near the logits in float32', async (name) => {
  const { folder, expected, ids, lengths } = reference(name);
  const { model } = await loadCheckpoint(folder, { dtype: 'bfloat16' });
  const hidden = model.hidden({ ids: ids(), lengths: lengths() });
  expect(hidden.dtype).toBe('bfloat16');
  const [logits, wanted] = [model.logits(hidden), expected.tensor('logits')];
  expect(logits.sub(wanted).norm().item() / wanted.norm().item()).toBeLessThan(0.03);
});

test.each(Object.entries(published))(
  '%s, as its file says, has its parameters to the unit, and reads back',
  (name, { json, parameters }) => {
    const config = configFromJson(json, name);
    expect(createTinyLlava(config).parameterCount()).toBe(parameters);
    const written = languageModels[config.language.type as keyof typeof languageModels].toJson(config.language);
    expect(configFromJson(JSON.parse(JSON.stringify(written)) as Json, name)).toEqual(config);
  },
);

test('every family serves a published model', () => {
  expect(new Set(Object.values(published).map(({ json }) => json['model_type']))).toEqual(new Set(Object.keys(languageModels)));
});

const settingsOf = (json: Json): Json => configFromJson(json, 'config.json').language;

test('older spellings mean the same', () => {
  const gemma3 = { model_type: 'gemma3_text', rope_theta: 5e5, rope_local_base_freq: 100, sliding_window_pattern: 3 };
  expect(settingsOf({ ...gemma3, rope_scaling: { rope_type: 'linear', factor: 8 } })).toMatchObject({
    ropeParameters: {
      fullAttention: { ropeType: 'linear', ropeTheta: 5e5, factor: 8 },
      slidingAttention: { ropeType: 'default', ropeTheta: 100 },
    },
    slidingWindowPattern: 3,
  });
  const factors = { short_factor: new Array(48).fill(1), long_factor: new Array(48).fill(2) };
  const longrope = { ropeType: 'longrope', ropeTheta: 1e4, shortFactor: factors.short_factor, longFactor: factors.long_factor };
  const rope_scaling = { type: 'su', ...factors };
  expect(settingsOf({ model_type: 'phi3', rope_scaling })['ropeParameters']).toEqual(longrope);
  expect(settingsOf({ model_type: 'gemma', hidden_act: 'gelu' })['hiddenAct']).toBe('gelu_pytorch_tanh');
  expect(settingsOf({ model_type: 'gemma2' })['attnLogitSoftcapping']).toBe(50);
  expect(settingsOf({ model_type: 'gemma2', attn_logit_softcapping: null })['attnLogitSoftcapping']).toBe(false);
  expect(settingsOf({ model_type: 'phi' })['partialRotaryFactor']).toBe(0.5);
  expect(settingsOf({ model_type: 'phi', rope_parameters: { partial_rotary_factor: 0.25 } })['partialRotaryFactor']).toBe(0.25);
});

test('a LLaVA around a Gemma shares embeddings and head unless it says otherwise', () => {
  const llava = (text_config: Json): unknown =>
    configFromJson({ model_type: 'llava', text_config }, 'config.json').language['tieWordEmbeddings'];
  expect(llava({ model_type: 'gemma' })).toBe(true);
  expect(llava({ model_type: 'gemma', tie_word_embeddings: false })).toBe(false);
  expect(llava({ model_type: 'qwen2' })).toBe(false);
});

test('settings that no model can have are refused by name', () => {
  const failures = [
    { model_type: 'phi', hidden_size: 40, num_attention_heads: 4, partial_rotary_factor: 0.5 },
    { model_type: 'qwen2', num_hidden_layers: 2, layer_types: ['full_attention'] },
    { model_type: 'gemma3_text', use_bidirectional_attention: true },
    { model_type: 'phi3', rope_scaling: { type: 'longrope', short_factor: [1], long_factor: [1] } },
    { model_type: 'openelm', num_transformer_layers: 4, ffn_multipliers: [1, 2, 3] },
    { model_type: 'phi4' },
  ].map((json) => {
    try {
      return JSON.stringify(settingsOf(json));
    } catch (error) {
      return (error as Error).message;
    }
  });
  expect(failures).toMatchInlineSnapshot(`
    [
      "config.json: partial_rotary_factor: rotates 5 elements of a head, which must be even and some",
      "config.json: layer_types: expected 2 layers, got 1",
      "config.json: use_bidirectional_attention: Invalid input: expected false, got true",
      "config.json: rope_parameters: expected 48 short and 48 long factors",
      "config.json: ffn_multipliers: expected one number, two, or one for each of numTransformerLayers",
      "config.json: unknown language model "phi4"",
    ]
  `);
});

test('a sequence that outgrows the short factors of LongRoPE in its cache is refused, not computed wrongly', async () => {
  const { model } = await loadCheckpoint(reference('phi3-longrope').folder);
  const caches = [model.languageModel.createCache(), model.languageModel.createCache()];
  model.hidden({ ids: Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8), lengths: [6, 2], caches });
  model.hidden({ ids: Int32Array.of(9, 10, 11), lengths: [2, 1], caches });
  expect(() => model.hidden({ ids: Int32Array.of(1, 2), lengths: [1, 1], caches })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: a sequence grows from 8 cached tokens to 9, past 8]`,
  );
});
