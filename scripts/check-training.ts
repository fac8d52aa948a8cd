import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { LogEvent } from '../src/log.ts';
import { loadCheckpoint } from '../src/model/checkpoint.ts';
import { setThreads } from '../src/tensor/device.ts';
import { dryRun } from '../src/train/dry-run.ts';
import { parseRecipe, type Recipe } from '../src/train/recipe.ts';
import { writeRecipe } from '../src/train/recipe-file.ts';
import { type StageResult, type TrainOptions, type TrainResult, train } from '../src/train/trainer.ts';
import { ranks } from '../test/train/ranks.ts';
import { tinyData } from '../test/train/tiny-data.ts';
import { Draw, drawRecipe } from './check-training/draw.ts';

/**
 * Draws small training runs from a seed, over all parts, tunings, optimizers, precisions and ways to sample, and checks of each that it repeats to the bit, broken off too, that
 * micro-batches, recomputing and, with --processes, ranks change nothing but rounding, that a dry run tells its steps, and that its checkpoint is what was trained.
 */
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    processes: { type: 'boolean', default: false },
  },
});
setThreads(1);
const [seed, from, count] = [Number(values.seed), Number(values.from), Number(values.count)];
const root = await tinyData();
let violations = 0;

/** Metrics without what the clock says, and checkpoints. */
function outcome(out: string, { stages }: Recipe): Record<string, string> {
  const clock = new Set(['seconds', 'waitedSeconds', 'tokensPerSecond', 'secondsLeft', 'memoryBytes', 'time', 'folder']);
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  const metrics = lines.map((line) => JSON.stringify(Object.entries(JSON.parse(line) as LogEvent).filter(([key]) => !clock.has(key))));
  const files = stages.flatMap(({ name }) => readdirSync(join(out, name)).map((file) => join(name, file)));
  const weights = files.filter((file) => file.endsWith('.safetensors'));
  return Object.fromEntries([
    ...metrics.map((line, i) => [`line ${i} of the metrics`, line]),
    ...weights.map((file) => [file, readFileSync(join(out, file), 'latin1')]),
  ]);
}

/** Where two outcomes differ first. */
function difference(one: Record<string, string>, other: Record<string, string>): string | undefined {
  return [...new Set([...Object.keys(one), ...Object.keys(other)])].find((key) => one[key] !== other[key]);
}

const stepsOf = (stages: readonly StageResult[] = []) => stages.flatMap(({ steps }) => steps);

/** The first step whose loss is another, apart from rounding, which grows from step to step. */
function strayed(stages: readonly StageResult[] | undefined, wanted: TrainResult, precision: Recipe['precision']): string | undefined {
  const [first, later] = precision === 'float32' ? [2e-5, 5e-3] : [3e-2, 0.15];
  const found = stepsOf(stages);
  for (const [i, { stage, step, loss, examples }] of stepsOf(wanted.stages).entries()) {
    const other = found[i];
    const near = other?.stage === stage && other.step === step && Math.abs(other.loss - loss) <= (i === 0 ? first : later) * loss;
    if (!near || other.examples !== examples) return `step ${step} of ${stage}: ${other?.loss} instead of ${loss}`;
  }
  return undefined;
}

function say(what: string, found: string | undefined): void {
  if (found === undefined) return;
  violations++;
  console.log(`  ${what}: ${found}`);
}

async function check(recipe: Recipe, draw: Draw, folder: string): Promise<void> {
  const { precision, stages } = recipe;
  const launch = { root, workers: 0, microBatch: draw.pick(1, 2, 8), recompute: draw.chance(0.5) };
  const run = (name: string, options: TrainOptions = {}) => train(recipe, { ...launch, out: join(folder, name), ...options });
  const whole = await run('whole');
  const wanted = outcome(join(folder, 'whole'), recipe);

  const dry = await dryRun(recipe, { root });
  const told = dry.stages.map(({ name, steps }) => `${name}: ${steps}`);
  const done = whole.stages.map(({ name, steps }) => `${name}: ${steps[0]?.steps}`);
  say('the dry run', told.join() === done.join() ? undefined : `${told} instead of ${done}`);

  await run('twice', { workers: 1, features: { folder: join(folder, 'features') } });
  say('a second time', difference(outcome(join(folder, 'twice'), recipe), wanted));

  // Broken off behind a step of each stage.
  for (const { name, steps } of whole.stages) {
    const controller = new AbortController();
    const last = draw.pick(...steps).step;
    const onStep = (event: { stage: string; step: number }): void =>
      void (event.stage === name && event.step === last && controller.abort());
    await run('broken', { resume: true, signal: controller.signal, onStep, save: { steps: draw.pick(1, 2), keep: 1 } });
    if (draw.chance(0.2)) rmSync(join(folder, 'broken/state'), { recursive: true, force: true });
  }
  await run('broken', { resume: true });
  say('broken off', difference(outcome(join(folder, 'broken'), recipe), wanted));

  const { model } = await loadCheckpoint(whole.stages.at(-1)?.folder ?? '', { dtype: whole.model.languageModel.headWeight.dtype });
  const trained = new Map(whole.model.namedParameters());
  const other = [...model.namedParameters()].find(([key, parameter]) => !trained.get(key)?.equal(parameter));
  // An adapter is added to the weights of its base, not to what the stage has rounded them to.
  if (stages.at(-1)?.merge !== false) say('its checkpoint', other?.[0]);

  // Another number of micro-batches drops other inputs, and patience may end at another step.
  if (/"dropout":0\.|"patience"/.test(JSON.stringify(recipe))) return;
  for (const microBatch of [1, 3]) {
    const { stages } = await run(`by-${microBatch}`, { microBatch, recompute: !launch.recompute });
    say(`micro-batches of ${microBatch}`, strayed(stages, whole, precision));
  }
  if (!values.processes) return;
  const file = join(folder, 'recipe.yaml');
  writeFileSync(file, writeRecipe(recipe));
  const elementwise = stages.every(({ optimizer }) => optimizer.type.startsWith('adamw'));
  for (const [size, sharded] of [[draw.pick(2, 4), elementwise] as const, [3, false] as const]) {
    const all = await ranks(size, { recipe: file, options: { root, sharded, out: join(folder, `ranks-${size}`) } });
    const error = all.find((one) => one?.error !== undefined)?.error;
    say(`${size} processes${sharded ? ', sharded' : ''}`, error ?? strayed(all[0]?.stages, whole, precision));
  }
}

for (let i = from; i < from + count; i++) {
  const draw = new Draw(seed, i);
  const recipe = parseRecipe(drawRecipe(draw));
  const folder = join(root, String(i));
  mkdirSync(folder);
  writeFileSync(join(folder, 'recipe.yaml'), writeRecipe(recipe));
  console.log(`--seed ${seed} --from ${i} --count 1: ${recipe.precision}, ${recipe.stages.length} stages`);
  await check(recipe, draw, folder).catch((error: Error) => say('an error', error.stack));
  rmSync(folder, { recursive: true });
}
rmSync(root, { recursive: true });
console.log(`${count} runs, ${violations} violations`);
process.exitCode = violations > 0 ? 1 : 0;
