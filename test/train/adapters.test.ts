import { spawnSync } from 'node:child_process';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TinyLlavaError } from '../../src/errors.ts';
import { loadModel } from '../../src/generate/generate.ts';
import type { LogEvent } from '../../src/log.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { loraLayers } from '../../src/nn/lora.ts';
import { randn, tensor } from '../../src/tensor/create.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { writeSafetensors } from '../../src/tensor/safetensors.ts';
import { dryRun } from '../../src/train/dry-run.ts';
import { parseRecipe, type Recipe, type RecipeInput } from '../../src/train/recipe.ts';
import { readRecipe } from '../../src/train/recipe-file.ts';
import { mergeAdapter } from '../../src/train/save.ts';
import { type TrainOptions, train } from '../../src/train/trainer.ts';
import '../matchers.ts';
import { tinyData } from './tiny-data.ts';

type Learns = RecipeInput['stages'][number]['learns'];

let root: string;
let tiny: Recipe;
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  tiny = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

const run = (recipe: Recipe, options: TrainOptions = {}) => train(recipe, { root, workers: 0, ...options });

/** The tiny recipe, whose second stage learns otherwise. */
function recipeWith(learns: Learns, more: { merge?: boolean; steps?: number } = {}): Recipe {
  const { steps = 8, ...stage } = more;
  const [align, instruct] = tiny.stages.map(({ epochs: _, ...rest }) => rest);
  return parseRecipe({
    ...tiny,
    stages: [
      { ...align, steps: 30 },
      { ...instruct, learns, steps, ...stage },
    ],
  } as RecipeInput);
}

async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (cause: unknown) => cause as Error,
  );
  return `${error.name}: ${error.message}${error instanceof TinyLlavaError && error.hint ? `\nhint: ${error.hint}` : ''}`;
}

const values = (model: TinyLlava): Map<string, number[]> =>
  new Map(Array.from(model.namedParameters(), ([key, parameter]) => [key, Array.from(parameter.toArray() as Float32Array)] as const));

function expectSame(model: TinyLlava, other: TinyLlava): void {
  const wanted = new Map(other.namedParameters());
  expect([...model.namedParameters()].map(([key]) => key)).toEqual([...wanted.keys()]);
  for (const [key, parameter] of model.namedParameters())
    expect(parameter, key).toMatchTensor(Array.from(wanted.get(key)?.toArray() as Float32Array));
}

const lora = { tune: 'lora', rank: 4, learningRate: 2e-2 } as const;

test('a stage with lora leaves a plain checkpoint with the changes in its weights', async () => {
  const recipe = recipeWith({ connector: 'full', language: lora }, { steps: 40 });
  const events: LogEvent[] = [];
  const out = join(root, 'merged');
  const { model, stages } = await run(recipe, { out, log: (event) => void events.push(event) });
  const losses = stages[1]?.steps.map(({ loss }) => loss) ?? [];
  expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) / 2);
  expect(loraLayers(model).size).toBe(0);
  expectSame((await loadCheckpoint(join(out, 'instruct'))).model, model);
  // Only what was to learn did.
  const [before, after] = [values((await loadCheckpoint(join(out, 'align'))).model), values(model)];
  const changed = [...after].filter(([key, now]) => now.some((value, i) => value !== before.get(key)?.[i])).map(([key]) => key);
  expect(changed.filter((key) => !/multi_modal_projector|_proj\.weight$/.test(key))).toEqual([]);
  expect(changed.filter((key) => key.includes('_proj.weight')).length).toBe(2 * 7);
  const { stages: planned } = await dryRun(recipe, { root });
  expect(events.filter(({ event }) => event === 'stage').map(({ trainable }) => trainable)).toEqual(
    planned.map(({ trainable }) => Object.values(trainable).reduce((sum, count) => sum + count, 0)),
  );
  // 4 (32 + 32) for q and o, 4 (32 + 32) for k and v, 4 (32 + 64) for the perceptron, in two layers
  expect(planned[1]?.trainable).toEqual({ vision: 0, connector: 5184, language: 2 * 4 * (4 * 64 + 3 * 96) });
});

test('merge: false leaves an adapter on top of the stage before, which opens as what was merged', async () => {
  const learns = { connector: 'full', language: { ...lora, dropout: 0.1 }, vision: { tune: 'lora', rank: 2, targets: '.*_proj' } } as const;
  const out = join(root, 'adapter');
  const { model } = await run(recipeWith(learns, { merge: false }), { out });
  const folder = join(out, 'instruct');
  expect((await readdir(folder)).sort()).toEqual([
    'adapter_config.json',
    'adapter_model.safetensors',
    'chat_template.jinja',
    'preprocessor_config.json',
    'processor_config.json',
    'recipe.yaml',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  const { base_model_name_or_path, modules_to_save, rank_pattern } = JSON.parse(
    await readFile(join(folder, 'adapter_config.json'), 'utf8'),
  ) as Record<string, unknown>;
  expect({ base_model_name_or_path, modules_to_save }).toEqual({
    base_model_name_or_path: '../align',
    modules_to_save: ['multi_modal_projector'],
  });
  expect(Object.values(rank_pattern as object)).toEqual([2]);
  expectSame((await loadCheckpoint(folder)).model, model);
  const merged = await run(recipeWith(learns), { out: join(root, 'adapter-merged') });
  expectSame(merged.model, model);

  const whole = join(root, 'whole');
  await mergeAdapter(folder, whole);
  expectSame((await loadCheckpoint(whole)).model, model);
  const question = { messages: [{ role: 'user', content: 'is water wet?' }], maxNewTokens: 4 } as const;
  const answers = await Promise.all([folder, whole].map(async (path) => (await (await loadModel(path)).generate(question)).text));
  expect(answers[0]).toBe(answers[1]);
  // Going on from the adapter is going on from the model.
  const { processor: _, ...rest } = { ...recipeWith({ language: 'full' }), model: { from: folder } };
  const [, second] = rest.stages;
  const next = await run(parseRecipe({ ...rest, processor: { image: {} }, stages: [second] } as RecipeInput));
  expect(next.stages.length).toBe(1);
});

test('the same seed gives the same bits with dropout, also when layers are computed again', async () => {
  const recipe = recipeWith({ language: { ...lora, dropout: 0.3 } });
  const [first, again, recomputed] = [await run(recipe), await run(recipe), await run(recipe, { recompute: true })];
  expect(values(again.model)).toEqual(values(first.model));
  expectSame(recomputed.model, first.model);
});

test.each([4, 8] as const)('qlora in %i bits learns, in less memory', async (bits) => {
  const recipe = recipeWith({ connector: 'full', language: { ...lora, tune: 'qlora', bits } }, { steps: 40 });
  const { stages } = await run(recipe);
  const losses = stages[1]?.steps.map(({ loss }) => loss) ?? [];
  expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) / 2);
  const [whole, few] = await Promise.all([dryRun(recipeWith({ language: lora }), { root }), dryRun(recipe, { root })]);
  expect(few.stages[1]?.memory.parameters).toBeLessThan(whole.stages[1]?.memory.parameters ?? 0);
});

test('layers from one on learn, those before and around them do not', async () => {
  const out = join(root, 'from-layer');
  const recipe = recipeWith({ language: { tune: 'from-layer', layer: 1 } });
  const { model } = await run(recipe, { out });
  const [before, after] = [values((await loadCheckpoint(join(out, 'align'))).model), values(model)];
  const changed = [...after].filter(([key, now]) => now.some((value, i) => value !== before.get(key)?.[i])).map(([key]) => key);
  expect(changed.every((key) => key.startsWith('model.language_model.layers.1.'))).toBe(true);
  expect(changed.length).toBe(9);
  const { stages } = await dryRun(recipe, { root });
  expect(stages[1]?.trainable.language).toBe(
    [...after].filter(([key]) => key.startsWith('model.language_model.layers.1.')).reduce((sum, [, numbers]) => sum + numbers.length, 0),
  );
});

test('what cannot learn is told before anything is done', async () => {
  const dry = (learns: Learns) => failure(dryRun(recipeWith(learns), { root }));
  expect(await dry({ language: { ...lora, targets: ['q_proj', 'kproj'] } })).toMatchInlineSnapshot(`
    "ConfigError: stage instruct: language: targets: no linear layer is called kproj
    hint: did you mean "k_proj"? known: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
  `);
  expect(await dry({ language: { ...lora, targets: 'layers\\.0\\.self_attn\\.q_proj' } })).toMatchInlineSnapshot(`
    "ConfigError: stage instruct: language: targets: no linear layer is called layers\\.0\\.self_attn\\.q_proj
    hint: a whole key is meant, as model.language_model.layers.0.self_attn.q_proj"
  `);
  expect(await dry({ language: { ...lora, targets: ['lm_head'] } })).toMatchInlineSnapshot(`
    "ConfigError: stage instruct: language: targets: no linear layer is called lm_head
    hint: known: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
  `);
  expect(await dry({ language: { tune: 'from-layer', layer: 2 } })).toMatchInlineSnapshot(`
    "ConfigError: stage instruct: language: from-layer: 2, but it has 2 layers
    hint: the last one is 1"
  `);
  expect(await dry({ connector: { tune: 'from-layer', layer: 0 } })).toMatchInlineSnapshot(`
    "ConfigError: stage instruct: connector: from-layer: 0, but it has 0 layers
    hint: use tune: full"
  `);
  const alone = {
    ...recipeWith({ language: lora }, { merge: false }),
    stages: recipeWith({ language: lora }, { merge: false }).stages.slice(1),
  };
  expect(await failure(run(alone, { out: join(root, 'alone') }))).toMatchInlineSnapshot(`
    "ConfigError: stage instruct: merge: false, but there is no checkpoint that the adapter could be for
    hint: start from a whole checkpoint (model: { from: … }), or have a stage before this one"
  `);
  expect(await readdir(root)).not.toContain('alone');
});

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) => command !== undefined && spawnSync(command, ['-c', 'import peft; from transformers import LlavaConfig']).status === 0,
);

test.skipIf(python === undefined)(
  'PEFT computes the same from the adapter of a stage, on the checkpoint of the stage before (needs a Python with peft: TINYLLAVA_PYTHON)',
  async () => {
    const vision = {
      type: 'siglip',
      hiddenSize: 32,
      intermediateSize: 64,
      numHiddenLayers: 3,
      numAttentionHeads: 2,
      imageSize: 16,
      patchSize: 4,
    };
    const learns: Learns = { connector: 'full', language: lora, vision: { tune: 'lora', rank: 3, targets: ['q_proj', 'fc1'] } };
    const recipe = recipeWith(learns, { merge: false });
    const model = { ...recipe.model, vision: { ...vision, visionUseHead: false }, connector: { type: 'mlp' } };
    const out = join(root, 'peft');
    await run(parseRecipe({ ...recipe, model } as RecipeInput), { out });
    const folder = join(out, 'instruct');
    const { model: trained, config } = await loadCheckpoint(folder);
    const ids = Int32Array.from([1, 2, ...new Array<number>(16).fill(config.imageTokenId ?? 0), 3, 5, 6, 7, 8]);
    const pixels = randn([1, 3, 16, 16], { generator: new Generator(1) });
    const logits = trained.logits(trained.hidden({ ids, lengths: [20, 3], pixels }));
    const tensors = { input_ids: tensor(ids), lengths: tensor(Int32Array.of(20, 3)), pixel_values: pixels, logits };
    writeSafetensors(join(folder, 'expected.safetensors'), Object.entries(tensors));
    const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-peft-loads.py', folder], { encoding: 'utf8' });
    expect(status, `${stdout}\n${stderr}`).toBe(0);
  },
  120_000,
);
