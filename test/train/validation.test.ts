import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Sampler } from '../../src/data/sampler.ts';
import { holdOut } from '../../src/data/subset.ts';
import type { LogEvent } from '../../src/log.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { openData } from '../../src/train/build.ts';
import { dryRun } from '../../src/train/dry-run.ts';
import { Masters } from '../../src/train/precision.ts';
import { type Recipe, selectStages } from '../../src/train/recipe.ts';
import { parseOverride, readRecipe } from '../../src/train/recipe-file.ts';
import type { ValidationEvent } from '../../src/train/stage.ts';
import { type TrainOptions, train } from '../../src/train/trainer.ts';
import { tune } from '../../src/train/tune.ts';
import { Progress, validate } from '../../src/train/validation.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
const file = join(import.meta.dirname, '../../recipes/tiny.cpu.yaml');
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  recipe = selectStages(await readRecipe(file), ['align']);
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

type Validation = Partial<NonNullable<Recipe['stages'][number]['validation']>>;
const validated = (
  validation: Validation,
  { steps = 12, learningRate = 1e-2, precision = 'float32' as Recipe['precision'] } = {},
): Recipe => ({
  ...recipe,
  precision,
  stages: recipe.stages.map(({ epochs: _, ...stage }) => ({
    ...stage,
    steps,
    optimizer: { ...stage.optimizer, learningRate },
    validation: { every: 3, keep: 'last', minImprovement: 0, ...validation },
  })),
});
const run = (given: Recipe, options: TrainOptions = {}) => train(given, { root, workers: 0, ...options });
const eventsOf = (out: string): LogEvent[] =>
  readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as LogEvent);
const bits = (model: TinyLlava) =>
  new Map(Array.from(model.namedParameters(), ([key, parameter]) => [key, parameter.toArray() as Float32Array] as const));

test('rows that are held out are not learned from, and are the same for the same seed', async () => {
  using data = await openData([{ conversations: 'tiny/captions.json', repeat: 3 }], root);
  const names = ({ rest, heldOut }: ReturnType<typeof holdOut>) =>
    [rest, heldOut].map((rows) => Array.from({ length: rows.length }, (_, i) => rows.nameOf(i)));
  const [rest, heldOut] = names(holdOut(data, 4, 7)) as [string[], string[]];
  expect([rest.length, heldOut.length]).toEqual([8, 4]);
  expect(new Set([...rest, ...heldOut]).size).toBe(12);
  expect(names(holdOut(data, 4, 7))).toEqual([rest, heldOut]);
  expect(names(holdOut(data, 4, 8))).not.toEqual([rest, heldOut]);
  // of rows that are repeated too
  const learned = new Sampler({ parts: holdOut(data, 4, 7).rest.parts, batchSize: 24, seed: 1 }).next();
  expect([...learned].toSorted((a, b) => a - b)).toEqual(Array.from({ length: 24 }, (_, i) => Math.floor(i / 3)));
  expect(() => holdOut(data, 12, 7)).toThrow('12 rows cannot be held out of 12');
});

test('validation is the mean over the supervised tokens, whatever the micro-batch, and behind the last step too', async () => {
  const seen: ValidationEvent[] = [];
  const again: number[] = [];
  const given = validated({ rows: 5, every: 5 });
  const { model } = await run(given, {
    onValidation: async (event, { processor, model }) => {
      seen.push(event);
      using data = await openData(given.stages[0]?.data ?? [], root);
      const { heldOut: rows } = holdOut(data, 5, given.seed);
      const stage = { ...(given.stages[0] as Recipe['stages'][number]), batchSize: 2 };
      again.push((await validate({ model, processor, rows, stage, microBatch: { examples: 1 }, workers: 0 }))?.loss ?? Number.NaN);
    },
  });
  expect(seen.map(({ step, rows }) => [step, rows])).toEqual([
    [5, 5],
    [10, 5],
    [12, 5],
  ]);
  for (const [i, { loss }] of seen.entries()) expect(Math.abs(loss - (again[i] ?? Number.NaN))).toBeLessThan(1e-5);
  expect(model.parameterCount()).toBeGreaterThan(0);
});

test('validating does not change what is learned', async () => {
  const plain = validated({ rows: 3, every: 100 });
  const often = validated({ rows: 3, every: 2 });
  expect(bits((await run(often)).model)).toEqual(bits((await run(plain)).model));
});

test('patience is counted from the best validation, and less than the least improvement is none', () => {
  const progress = new Progress({ patience: 2, minImprovement: 0.1 });
  const seen = [3, 2.95, 2, 2.5, 1.95, 1].map((loss, i) => [progress.add(loss, i), progress.over]);
  expect(seen).toEqual([
    [true, false],
    [false, false],
    [true, false],
    [false, false],
    [false, true],
    [true, false],
  ]);
  expect(progress.state).toEqual({ best: { loss: 1, step: 5 }, worse: 0, last: 5 });
});

test('a validation that is not finite is never the best', () => {
  const progress = new Progress({ patience: 3, minImprovement: 0 });
  expect([Number.NaN, 1.5, Number.POSITIVE_INFINITY, 1.2].map((loss, i) => progress.add(loss, i))).toEqual([false, true, false, true]);
  expect(progress.state).toEqual({ best: { loss: 1.2, step: 3 }, worse: 0, last: 3 });
});

test.each(['float32', 'bfloat16'] as const)(
  'a stage that gets worse ends early with its best %s weights, broken off and resumed or not',
  async (precision) => {
    // So fast that it soon unlearns what the slow warm-up taught it.
    const stage = validated({ rows: 4, every: 2, keep: 'best', patience: 2 }, { steps: 60, learningRate: 0.3, precision });
    const given = { ...stage, stages: [...stage.stages, { ...(stage.stages[0] as Recipe['stages'][number]), name: 'second', steps: 2 }] };
    const [whole, broken] = [join(root, `best-${precision}`), join(root, `best-broken-${precision}`)];
    const ended: Map<string, Float32Array>[] = [];
    await run(given, { out: whole, onStageEnd: (_, { model }) => void ended.push(bits(model)) });
    const events = eventsOf(whole);
    const validations = events.filter(({ event, stage }) => event === 'validation' && stage === 'align') as unknown as ValidationEvent[];
    const stop = events.find(({ event }) => event === 'early-stop');
    const best = validations.reduce((a, b) => (b.loss < a.loss ? b : a));
    expect(stop).toMatchObject({ stage: 'align', step: best.step + 4, best: best.step });
    expect(existsSync(join(whole, 'align.best.safetensors'))).toBe(false);
    // The weights in memory are those of the checkpoint, and they have the loss of the best validation.
    const { model } = await loadCheckpoint(join(whole, 'align'));
    tune(model, given.stages[0] as Recipe['stages'][number]);
    new Masters(model, precision); // rounds as the run did, which takes ties away from zero where weights learn
    expect(bits(model)).toEqual(ended[0]);
    const controller = new AbortController();
    await run(given, {
      out: broken,
      signal: controller.signal,
      onStep: ({ step }) => (step === best.step + 1 ? controller.abort() : undefined),
    });
    expect(existsSync(join(broken, 'align.best.safetensors'))).toBe(true);
    await run(given, { out: broken, resume: true });
    for (const name of ['align', 'second']) {
      const weights = (out: string) => readFileSync(join(out, name, 'model.safetensors'));
      expect(weights(broken).equals(weights(whole)), name).toBe(true);
    }
  },
);

test.each([4, 8])('a run that is told to stop in front of the validation behind step %i of 8 does it when it is resumed', async (last) => {
  const given = validated({ rows: 4, every: 4, keep: 'best' }, { steps: 8 });
  const [whole, broken] = [join(root, `stopped-${last}-whole`), join(root, `stopped-${last}`)];
  await run(given, { out: whole });
  const controller = new AbortController();
  const onStep = ({ step }: { step: number }) => (step === last ? controller.abort() : undefined);
  expect((await run(given, { out: broken, signal: controller.signal, onStep })).stopped).toBe(true);
  const validations = (out: string) =>
    eventsOf(out)
      .filter(({ event }) => event === 'validation')
      .map(({ time: _, ...facts }) => facts);
  expect(validations(broken).map(({ step }) => step)).toEqual(last === 4 ? [] : [4]);
  await run(given, { out: broken, resume: true });
  expect(validations(broken)).toEqual(validations(whole));
  const weights = (out: string) => readFileSync(join(out, 'align/model.safetensors'));
  expect(weights(broken).equals(weights(whole))).toBe(true);
});

test('what cannot be validated or kept is said before training', async () => {
  await expect(run(validated({ rows: 2, keep: 'best' }))).rejects.toThrow(
    'stage align: the best weights can be kept only in a folder (out)',
  );
  const told = (override: string) => readRecipe(file, [parseOverride(override)]);
  await expect(told('stages.0.validation={every: 2}')).rejects.toThrow('stages.0.validation: give either data or rows');
});

test('held-out rows of which none can be used are said before training', async () => {
  writeFileSync(join(root, 'useless.json'), JSON.stringify([{ id: 0 }, null]));
  const [given] = validated({ data: [{ conversations: 'useless.json', repeat: 1 }] }).stages as [Recipe['stages'][number]];
  const events: LogEvent[] = [];
  const trained = (unusableRows: 'stop' | 'skip') =>
    run({ ...recipe, stages: [{ ...given, unusableRows }] }, { log: (event) => events.push(event) });
  await expect(trained('stop')).rejects.toThrow('useless.json#0: conversations: ');
  await expect(trained('skip')).rejects.toThrow('none of the 2 rows for validation can be used');
  expect(events).toEqual([]);
  const dry = dryRun({ ...recipe, stages: [{ ...given, unusableRows: 'skip' }] }, { root });
  await expect(dry).rejects.toThrow('stage align: validation: none of 2 sampled rows can be used');
});

test('the run folder says what the run was made with', async () => {
  const out = join(root, 'described');
  await run(validated({ rows: 2 }, { steps: 2 }), { out, microBatch: 3 });
  const found = JSON.parse(readFileSync(join(out, 'environment.json'), 'utf8')) as Record<string, unknown>;
  expect(found).toMatchObject({ node: process.versions.node, device: 'cpu', threads: 1, launch: { microBatch: 3, workers: 0 } });
  expect(Object.keys(found)).toEqual(expect.arrayContaining(['tinyllava', 'libtorch', 'instructions', 'system', 'cores', 'memoryBytes']));
});

const python = process.env['TINYLLAVA_PYTHON'];
const script = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
log = EventAccumulator(sys.argv[1]); log.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}))
`;

test('the files for TensorBoard are read by it, before and after a break', async ({ skip }) => {
  if (!python) skip('TINYLLAVA_PYTHON names no Python');
  if (spawnSync(python ?? '', ['-c', 'import tensorboard']).status !== 0) skip('that Python has no tensorboard');
  const out = join(root, 'drawn');
  const controller = new AbortController();
  const given = validated({ rows: 4, every: 2 }, { steps: 5 });
  await run(given, { out, signal: controller.signal, onStep: ({ step }) => (step === 3 ? controller.abort() : undefined) });
  await run(given, { out, resume: true });
  expect(readdirSync(join(out, 'tensorboard')).length).toBe(1);
  const { stdout, stderr } = spawnSync(python ?? '', ['-c', script, join(out, 'tensorboard')], { encoding: 'utf8' });
  const drawn = JSON.parse(stdout.trim().split('\n').at(-1) ?? stderr) as Record<string, [number, number][]>;
  const told = (kind: string, key: string) =>
    eventsOf(out)
      .filter(({ event }) => event === kind)
      .map((event) => [event['step'], Math.fround(Number(event[key]))]);
  expect(drawn['align/loss']).toEqual(told('step', 'loss'));
  expect(drawn['align/learning rate']).toEqual(told('step', 'learningRate'));
  expect(drawn['align/validation loss']).toEqual(told('validation', 'loss'));
  expect(told('step', 'loss').length).toBe(5);
});
