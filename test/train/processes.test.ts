import { cpSync, existsSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseRecipe, type Recipe } from '../../src/train/recipe.ts';
import { readRecipe, writeRecipe } from '../../src/train/recipe-file.ts';
import { type StageResult, train } from '../../src/train/trainer.ts';
import { ranks } from './ranks.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
beforeAll(async () => {
  root = await tinyData();
  const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  recipe = { ...whole, stages: whole.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps: 4, batchSize: 6 })) };
});
afterAll(() => rm(root, { recursive: true }));

async function written(name: string, given: Recipe): Promise<string> {
  const file = join(root, `${name}.yaml`);
  await writeFile(file, writeRecipe(given));
  return file;
}

const stepsOf = (stages: readonly StageResult[] | undefined) =>
  stages?.flatMap(({ steps }) =>
    steps.map(({ loss, gradNorm, examples, images, tokens }) => ({ loss, gradNorm, examples, images, tokens })),
  ) ?? [];

function expectClose(found: ReturnType<typeof stepsOf>, wanted: ReturnType<typeof stepsOf>, tolerance: number): void {
  expect(found.length).toBe(wanted.length);
  for (const [i, { loss, gradNorm, ...counts }] of wanted.entries()) {
    const other = found[i];
    expect(other).toMatchObject(counts);
    expect(Math.abs((other?.loss ?? 0) / loss - 1), `loss ${i}`).toBeLessThan(tolerance);
    expect(Math.abs((other?.gradNorm ?? 0) / gradNorm - 1), `norm ${i}`).toBeLessThan(10 * tolerance);
  }
}

test.each([
  { size: 2, sharded: false, precision: 'float32', tolerance: 1e-5 },
  { size: 4, sharded: false, precision: 'bfloat16', tolerance: 2e-2 },
  { size: 2, sharded: true, precision: 'bfloat16', tolerance: 2e-2 },
  { size: 4, sharded: true, precision: 'float32', tolerance: 1e-5 },
] as const)('$size processes learn in $precision what one does (sharded: $sharded)', async ({ size, sharded, precision, tolerance }) => {
  const given = { ...recipe, precision };
  const alone = await train(given, { root, workers: 0, microBatch: 2 });
  // With six rows a step, four ranks have one or two each, and some only text.
  const all = await ranks(size, { recipe: await written(`${size}-${sharded}`, given), options: { root, microBatch: 1, sharded } });
  for (const one of all) expect(one?.error).toBeUndefined();
  expectClose(stepsOf(all[0]?.stages), stepsOf(alone.stages), tolerance);
});

const weights = (out: string): Buffer => readFileSync(join(out, 'instruct/model.safetensors'));

test.each([false, true])(
  'a run of two processes that was broken off ends with the bits of the unbroken one (sharded: %s)',
  async (sharded) => {
    const file = await written('resume', recipe);
    const [unbroken, broken, other] = ['unbroken', 'broken', 'other'].map((name) => join(root, `${name}-${sharded}`)) as [
      string,
      string,
      string,
    ];
    const run = (size: number, out: string, more: object = {}, options: object = {}) =>
      ranks(size, { recipe: file, options: { root, microBatch: 2, sharded, out, ...options }, ...more });
    const whole = await run(2, unbroken);
    const first = await run(2, broken, { stopBehind: { stage: 'instruct', step: 2 } });
    expect(first.map((one) => [one?.error, one?.stopped])).toEqual([
      [undefined, true],
      [undefined, true],
    ]);
    cpSync(broken, other, { recursive: true });
    const second = await run(2, broken, {}, { resume: true });
    expect(second.map((one) => one?.error)).toEqual([undefined, undefined]);
    expect(weights(broken).equals(weights(unbroken))).toBe(true);
    // One process takes over what two have saved, in parts or whole.
    const alone = await train(recipe, { root, workers: 0, microBatch: 2, out: other, resume: true });
    expectClose(stepsOf(alone.stages), stepsOf(whole[0]?.stages), 1e-4);
  },
);

test('three processes take over what one has saved, and keep a part of it each', async () => {
  const file = await written('more', recipe);
  const out = join(root, 'more');
  const whole = await train(recipe, { root, workers: 0, microBatch: 2 });
  const controller = new AbortController();
  const onStep = ({ stage, step }: { stage: string; step: number }) => void (stage === 'instruct' && step === 1 && controller.abort());
  await train(recipe, { root, workers: 0, microBatch: 2, out, signal: controller.signal, onStep });
  const all = await ranks(3, { recipe: file, options: { root, microBatch: 2, out, resume: true, sharded: true } });
  for (const one of all) expect(one?.error).toBeUndefined();
  expectClose(stepsOf(all[0]?.stages), stepsOf(whole.stages), 1e-4);
});

test.each(['adamw', 'adamw-8bit'] as const)(
  'two processes and then four go on with what one has saved by %s, each with its part',
  async (type) => {
    const stages = recipe.stages.map((stage) => ({ ...stage, optimizer: { ...stage.optimizer, type } }));
    const given = parseRecipe({ ...recipe, stages: stages.slice(0, 1) });
    const file = await written(`split-${type}`, given);
    const out = join(root, `split-${type}`);
    const whole = await train(given, { root, workers: 0 });
    const [stage = '', options] = [given.stages[0]?.name, { root, out, resume: true, sharded: true }];
    const controller = new AbortController();
    await train(given, { root, workers: 0, out, signal: controller.signal, onStep: ({ step }) => void (step === 1 && controller.abort()) });
    const two = await ranks(2, { recipe: file, options, stopBehind: { stage, step: 2 } });
    for (const one of two) expect(one).toMatchObject({ stopped: true });
    const four = await ranks(4, { recipe: file, options });
    for (const one of four) expect(one?.error).toBeUndefined();
    expectClose(stepsOf(four[0]?.stages), stepsOf(whole.stages), 1e-4);
  },
);

test('a rank that fails ends the others, which name it', async () => {
  const data = join(root, 'tiny/broken.json');
  const rows = JSON.parse(readFileSync(join(root, 'tiny/captions.json'), 'utf8')) as { image: string }[];
  await writeFile(data, JSON.stringify(rows.map((row, i) => (i === 1 ? { ...row, image: 'gone.png' } : row))));
  const [stage] = recipe.stages;
  const sources = stage ? stage.data.map((source) => ({ ...source, conversations: 'tiny/broken.json' })) : [];
  const file = await written('broken', { ...recipe, stages: stage ? [{ ...stage, data: sources, batchSize: 12 }] : [] });
  const all = await ranks(2, { recipe: file, options: { root } });
  const errors = all.map((one) => one?.error ?? '');
  const failed = errors.findIndex((error) => error.includes('gone.png') && !error.includes('rank'));
  expect(failed).toBeGreaterThanOrEqual(0);
  expect(errors[1 - failed]).toMatch(new RegExp(`rank ${failed} \\(.*, process \\d+\\) failed: .*gone.png`));
});

test('of three ranks one that is killed is named by both that are left', async () => {
  const endless = { ...recipe, stages: recipe.stages.map((stage) => ({ ...stage, steps: 100_000 })) };
  const out = join(root, 'killed');
  const during = async (children: readonly { kill(signal: 'SIGKILL'): boolean }[]): Promise<void> => {
    const metrics = join(out, 'metrics.jsonl');
    while (!existsSync(metrics) || !readFileSync(metrics, 'utf8').includes('"step":3')) await delay(100);
    children[1]?.kill('SIGKILL');
  };
  const all = await ranks(3, { recipe: await written('killed', endless), options: { root, out } }, { during });
  expect(all[1]).toBeUndefined();
  for (const left of [all[0], all[2]]) expect(left?.error).toMatch(/^rank 1 \(.*\) no longer answers$/);
}, 90_000);
