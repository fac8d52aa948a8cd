import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LogEvent } from '../../src/log.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { Processor } from '../../src/processor/processor.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { type Recipe, selectStages } from '../../src/train/recipe.ts';
import { parseOverride, readRecipe } from '../../src/train/recipe-file.ts';
import { type TrainOptions, train } from '../../src/train/trainer.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
let short: Recipe;
const file = join(import.meta.dirname, '../../recipes/tiny.cpu.yaml');
// Tensors this small gain nothing from a second thread, and lose much on a busy machine.
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  recipe = await readRecipe(file);
  short = { ...recipe, stages: recipe.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps: 3 })) };
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

const run = (given: Recipe, options: TrainOptions = {}) => train(given, { root, workers: 0, ...options });

const bits = (model: TinyLlava): Map<string, Float32Array> =>
  new Map(Array.from(model.namedParameters(), ([key, parameter]) => [key, parameter.toArray() as Float32Array] as const));

test('two stages learn to name colours, and leave checkpoints, metrics and the recipe', async () => {
  const out = join(root, 'whole');
  const ended: string[] = [];
  const { stages, stopped, model } = await run(recipe, { out, onStageEnd: ({ name }) => void ended.push(name) });
  expect(stopped).toBe(false);
  expect(ended).toEqual(['align', 'instruct']);
  expect(stages.map(({ name, steps, folder }) => [name, steps.length, folder])).toEqual([
    ['align', 60, join(out, 'align')],
    ['instruct', 100, join(out, 'instruct')],
  ]);
  const losses = stages.flatMap(({ steps }) => steps.map(({ loss }) => loss));
  expect(losses[0]).toBeGreaterThan(2);
  expect(losses.at(-1)).toBeLessThan(0.3);

  expect((await readdir(out)).sort()).toEqual(['align', 'environment.json', 'instruct', 'metrics.jsonl', 'recipe.yaml', 'tensorboard']);
  const events = (await readFile(join(out, 'metrics.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as LogEvent);
  expect(events.map(({ event }) => event).filter((event) => event !== 'step')).toEqual(['stage', 'checkpoint', 'stage', 'checkpoint']);
  expect(events.filter(({ event }) => event === 'step').map(({ loss }) => loss)).toEqual(losses);
  expect(await readRecipe(join(out, 'recipe.yaml'))).toEqual(recipe);
  expect(await readRecipe(join(out, 'align/recipe.yaml'))).toEqual(recipe);

  const opened = await loadCheckpoint(join(out, 'instruct'));
  expect(bits(opened.model)).toEqual(bits(model));
  const processor = await Processor.open(join(out, 'instruct'), { imageTokens: opened.model.imageTokens });
  expect(processor.imageTokenId).toBe(opened.config.imageTokenId);
});

test('the same recipe gives the same bits, another seed others', async () => {
  const [first, again, other] = [await run(short), await run(short), await run({ ...short, seed: 1 })];
  expect(bits(again.model)).toEqual(bits(first.model));
  expect(bits(other.model)).not.toEqual(bits(first.model));
});

test('a stage alone from the checkpoint of the one before gives the same bits as the chain', async () => {
  const out = join(root, 'chain');
  const chain = await run(short, { out });
  const { processor: _, ...rest } = selectStages(short, ['instruct']);
  const alone = await run({ ...rest, processor: { image: {}, videoFrames: 8 }, model: { from: 'chain/align' } });
  expect(alone.stages.map(({ name }) => name)).toEqual(['instruct']);
  expect(bits(alone.model)).toEqual(bits(chain.model));
});

test('micro-batches, recomputing and threads that load images change nothing but rounding', async () => {
  const losses = async (options: TrainOptions) => (await run(short, options)).stages.flatMap(({ steps }) => steps.map(({ loss }) => loss));
  const whole = await losses({});
  expect(await losses({ recompute: true })).toEqual(whole);
  expect(await losses({ workers: 2 })).toEqual(whole);
  const parts = await losses({ microBatch: 3 });
  for (const [i, loss] of parts.entries()) expect(Math.abs(loss - (whole[i] ?? Number.NaN))).toBeLessThan(1e-5);
});

test('a frozen part keeps its bits through a stage', async () => {
  const seen: Map<string, Float32Array>[] = [];
  await run(short, { onStageEnd: (_, { model }) => void seen.push(bits(model)) });
  const [align, instruct] = seen;
  const changed = [...(align ?? [])].filter(([key, values]) => !values.every((value, i) => value === instruct?.get(key)?.[i]));
  expect(changed.length).toBeGreaterThan(10);
  expect(changed.map(([key]) => key).filter((key) => key.includes('vision_tower'))).toEqual([]);
});

test('the schedule, the epochs and the speed are in the events', async () => {
  const { stages } = await run(short);
  const [align] = stages;
  expect(align?.steps.map(({ learningRate }) => learningRate)).toEqual([0, 1e-2, 5e-3]);
  expect(align?.steps.map(({ step, steps, epoch, examples }) => [step, steps, epoch, examples])).toMatchInlineSnapshot(`
    [
      [
        1,
        3,
        0.6666666666666666,
        8,
      ],
      [
        2,
        3,
        1,
        4,
      ],
      [
        3,
        3,
        1.6666666666666665,
        8,
      ],
    ]
  `);
  for (const event of align?.steps ?? []) expect(event.tokensPerSecond).toBeGreaterThan(0);
  expect(align?.steps.at(-1)?.secondsLeft).toBe(0);
  expect(stages[1]?.steps[0]?.seconds).toBeGreaterThan(align?.steps.at(-1)?.seconds ?? Number.NaN);
});

test('steps leave no tensors behind', async () => {
  const live: number[] = [];
  await run({ ...short, stages: short.stages.slice(0, 1) }, { onStep: () => void live.push(liveTensors()) });
  expect(live.length).toBe(3);
  expect(new Set(live).size).toBe(1);
});

test('a signal ends the run behind its step, with a state but without a checkpoint', async () => {
  const out = join(root, 'stopped');
  const controller = new AbortController();
  const { stages, stopped } = await run(short, {
    out,
    signal: controller.signal,
    onStep: ({ step }) => (step === 2 ? controller.abort() : undefined),
  });
  expect(stopped).toBe(true);
  expect(stages.map(({ name, steps, folder }) => [name, steps.length, folder])).toEqual([['align', 2, undefined]]);
  expect((await readdir(out)).sort()).toEqual(['environment.json', 'metrics.jsonl', 'recipe.yaml', 'state', 'tensorboard']);
  expect(await readdir(join(out, 'state'))).toEqual(['align-00000002']);
});

test('a checkpoint that is there is not overwritten', async () => {
  await mkdir(join(root, 'taken/instruct'), { recursive: true });
  const attempt = run(short, { out: join(root, 'taken') });
  await expect(attempt).rejects.toThrow(/taken\/instruct exists already/);
  expect(await readdir(join(root, 'taken'))).toEqual(['instruct']);
});

test('a row that cannot be used stops the run and is named', async () => {
  await writeFile(
    join(root, 'bad.json'),
    JSON.stringify([
      {
        conversations: [
          { from: 'human', value: 'who?' },
          { from: 'gpt', value: '' },
        ],
      },
    ]),
  );
  const bad = (conversations: string, learningRate = 1e-3): Recipe => ({
    ...short,
    stages: short.stages.slice(0, 1).map((stage) => ({
      ...stage,
      maxLength: 2,
      data: [{ conversations, repeat: 1 }],
      optimizer: { ...stage.optimizer, learningRate },
    })),
  });
  await expect(run(bad('bad.json'))).rejects.toThrow(/bad\.json#0: nothing is learned/);
  await expect(run(bad('none.json'))).rejects.toThrow(/none\.json does not exist/);
});

test('what does not fit together is said before training', async () => {
  const [first] = short.stages;
  const { template: _, ...untold } = first ?? {};
  await expect(run({ ...short, stages: [untold as Recipe['stages'][number]] })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: stage align names no template, and the model's folder has none]`,
  );
  await expect(run({ ...short, processor: { image: {}, videoFrames: 8 } })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: the language model is fresh and has no tokenizer]`,
  );
  await expect(run({ ...short, model: { from: 'nowhere' }, processor: { image: {}, videoFrames: 8 } })).rejects.toThrow(
    /nowhere: no such folder/,
  );
  await expect(readRecipe(file, [parseOverride('model={from: align}')])).rejects.toThrow(/keeps its tokenizer/);
});

test('what would end a later stage is said before the first one begins', async () => {
  const [first, second] = short.stages as [Recipe['stages'][number], Recipe['stages'][number]];
  const attempt = async (change: Partial<Recipe['stages'][number]>, model = short.model): Promise<unknown> => {
    const steps: number[] = [];
    const given = { ...short, model, stages: [first, { ...second, ...change }] };
    const error: unknown = await run(given, { onStep: ({ step }) => void steps.push(step) }).catch((error: unknown) => error);
    return steps.length > 0 ? 'too late' : error;
  };
  const connector = { tune: 'full' } as const;
  const [frozen, late] = [{ tune: 'frozen' }, { tune: 'from-layer', layer: 9 }] as const;
  expect(await attempt({ learns: { vision: frozen, connector, language: late } })).toMatchInlineSnapshot(
    `[ConfigError: stage instruct: language: from-layer: 9, but it has 2 layers]`,
  );
  const data = [{ conversations: 'nowhere.json', repeat: 1 }];
  expect(await attempt({ data })).toMatchObject({ message: expect.stringMatching(/nowhere\.json does not exist$/) });
  const validation = { data, every: 1, keep: 'last', minImprovement: 0 } as const;
  expect(await attempt({ validation })).toMatchObject({ message: expect.stringMatching(/nowhere\.json does not exist$/) });
  const passing = { ...short.model, connector: { type: 'identity' } } as Recipe['model'];
  expect(await attempt({ learns: { vision: frozen, connector, language: frozen } }, passing)).toMatchInlineSnapshot(
    `[ConfigError: stage instruct: nothing would learn: connector of this model has no parameters]`,
  );
});
