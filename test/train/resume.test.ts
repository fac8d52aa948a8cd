import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { appendFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import type { LogEvent } from '../../src/log.ts';
import { full } from '../../src/tensor/create.ts';
import { setThreads, threads } from '../../src/tensor/device.ts';
import { openParts, replaceParts } from '../../src/train/parts-files.ts';
import { parseRecipe, type Recipe } from '../../src/train/recipe.ts';
import { readRecipe, writeRecipe } from '../../src/train/recipe-file.ts';
import { type TrainOptions, train } from '../../src/train/trainer.ts';
import { tinyData } from './tiny-data.ts';

let root: string;
let recipe: Recipe;
const usual = threads();
beforeAll(async () => {
  setThreads(1);
  root = await tinyData();
  const whole = await readRecipe(join(import.meta.dirname, '../../recipes/tiny.cpu.yaml'));
  recipe = { ...whole, stages: whole.stages.map(({ epochs: _, ...stage }) => ({ ...stage, steps: 5 })) };
});
afterAll(async () => {
  setThreads(usual);
  await rm(root, { recursive: true });
});

const run = (given: Recipe, options: TrainOptions = {}) => train(given, { root, workers: 0, ...options });

/** A run that is broken off behind the given step of the given stage. */
function brokenOff(given: Recipe, out: string, { stage, step, ...options }: TrainOptions & { stage: string; step: number }) {
  const controller = new AbortController();
  const onStep = (event: { stage: string; step: number }) => {
    if (event.stage === stage && event.step === step) controller.abort();
  };
  return run(given, { ...options, out, signal: controller.signal, onStep });
}

/** The bytes of the checkpoints, and the metrics without what the clock says. */
function outcome(out: string) {
  const clock = new Set(['seconds', 'waitedSeconds', 'tokensPerSecond', 'secondsLeft', 'memoryBytes', 'time', 'folder']);
  const metrics = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => Object.fromEntries(Object.entries(JSON.parse(line) as LogEvent).filter(([key]) => !clock.has(key))));
  const weights = (stage: string) => readFileSync(join(out, stage, 'model.safetensors'));
  return { metrics, align: weights('align'), instruct: weights('instruct') };
}

test.each(['float32', 'bfloat16', 'float16'] as const)(
  'a %s run that was broken off twice ends with the bits, the metrics and the result of the unbroken one',
  async (precision) => {
    const given = { ...recipe, precision };
    const [whole, broken] = [join(root, `whole-${precision}`), join(root, `broken-${precision}`)];
    const unbroken = await run(given, { out: whole });
    await brokenOff(given, broken, { stage: 'align', step: 4 });
    const second = await brokenOff(given, broken, { stage: 'instruct', step: 2, resume: true });
    expect(second.stages.map(({ name, steps }) => [name, steps.length])).toEqual([
      ['align', 5],
      ['instruct', 2],
    ]);
    const resumed = await run(given, { out: broken, resume: true });
    expect(outcome(broken)).toEqual(outcome(whole));
    expect(resumed.stages.map(({ name, steps }) => [name, steps.map(({ loss }) => loss)])).toEqual(
      unbroken.stages.map(({ name, steps }) => [name, steps.map(({ loss }) => loss)]),
    );
    const parameters = new Map(unbroken.model.namedParameters());
    for (const [key, parameter] of resumed.model.namedParameters()) expect(parameters.get(key)?.equal(parameter), key).toBe(true);
    expect(existsSync(join(broken, 'state'))).toBe(false);
    // A run that is done has nothing left to do.
    expect((await run(given, { out: broken, resume: true })).stages.map(({ steps }) => steps.length)).toEqual([5, 5]);
    expect(outcome(broken)).toEqual(outcome(whole));
  },
);

test.each(['float32', 'bfloat16'] as const)(
  'a %s run that learns by lora, qlora and from a layer on resumes to the bit too',
  async (precision) => {
    const [first, second] = recipe.stages as [Recipe['stages'][number], Recipe['stages'][number]];
    const low = { rank: 4, dropout: 0.2, targets: 'all', rankStabilized: false } as const;
    const given: Recipe = {
      ...recipe,
      precision,
      stages: [
        { ...first, learns: { vision: { tune: 'from-layer', layer: 0 }, connector: { tune: 'full' }, language: { tune: 'lora', ...low } } },
        { ...second, learns: { vision: { tune: 'frozen' }, connector: { tune: 'full' }, language: { tune: 'qlora', bits: 4, ...low } } },
      ],
    };
    const [whole, broken] = [join(root, `low-${precision}`), join(root, `low-broken-${precision}`)];
    await run(given, { out: whole });
    await brokenOff(given, broken, { stage: 'align', step: 3 });
    await brokenOff(given, broken, { stage: 'instruct', step: 2, resume: true });
    await run(given, { out: broken, resume: true });
    expect(outcome(broken)).toEqual(outcome(whole));
  },
);

test('a bfloat16 run that learns by qlora what learned in full before resumes to the bit', async () => {
  const [first, second] = recipe.stages as [Recipe['stages'][number], Recipe['stages'][number]];
  const language = { tune: 'qlora', bits: 8, rank: 4, dropout: 0, targets: 'all', rankStabilized: false } as const;
  const learns = { vision: { tune: 'frozen' }, connector: { tune: 'full' }, language } as const;
  const given: Recipe = { ...recipe, precision: 'bfloat16', stages: [first, { ...second, learns }] };
  const [whole, broken] = [join(root, 'full-qlora'), join(root, 'full-qlora-broken')];
  await run(given, { out: whole });
  await brokenOff(given, broken, { stage: 'instruct', step: 2 });
  await run(given, { out: broken, resume: true });
  expect(outcome(broken)).toEqual(outcome(whole));
});

test.each([
  { precision: 'float32', first: 'qlora' },
  { precision: 'bfloat16', first: 'lora' },
] as const)('a stage behind a $first adapter in $precision resumes to the bit', async ({ precision, first }) => {
  const [align, instruct] = recipe.stages as [Recipe['stages'][number], Recipe['stages'][number]];
  const low = { rank: 4, dropout: 0.2, targets: 'all', rankStabilized: false } as const;
  const language = first === 'lora' ? ({ tune: 'lora', ...low } as const) : ({ tune: 'qlora', bits: 4, ...low } as const);
  const learns = { vision: { tune: 'frozen' }, connector: { tune: 'full' }, language } as const;
  const given: Recipe = { ...recipe, precision, stages: [align, { ...align, name: 'adapt', learns, merge: false }, instruct] };
  const [whole, broken] = [join(root, `adapt-${precision}-${first}`), join(root, `adapt-broken-${precision}-${first}`)];
  await run(given, { out: whole });
  await brokenOff(given, broken, { stage: 'adapt', step: 2 });
  await brokenOff(given, broken, { stage: 'instruct', step: 2, resume: true });
  // As if it had been killed before the first state of the stage was saved.
  rmSync(join(broken, 'state'), { recursive: true });
  await run(given, { out: broken, resume: true });
  expect(outcome(broken)).toEqual(outcome(whole));
  const adapter = (out: string) => readFileSync(join(out, 'adapt/adapter_model.safetensors'));
  expect(adapter(broken).equals(adapter(whole))).toBe(true);
});

test('states are saved as often as asked and the newest are kept; a broken one is passed over for the one before', async () => {
  const out = join(root, 'states');
  await brokenOff(recipe, out, { stage: 'align', step: 4, save: { steps: 1, keep: 2 } });
  expect(readdirSync(join(out, 'state')).sort()).toEqual(['align-00000003', 'align-00000004']);
  truncateSync(join(out, 'state/align-00000004/state.safetensors'), 1000);
  mkdirSync(join(out, 'state/.align-00000006.1.part'));
  await appendFile(join(out, 'metrics.jsonl'), '{"event":"torn');
  const events: LogEvent[] = [];
  await run(recipe, { out, resume: true, log: (event) => void events.push(event) });
  expect(events.find(({ event }) => event === 'resume')).toMatchObject({ stage: 'align', step: 3 });
  const metrics = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  expect(metrics.map((line) => (JSON.parse(line) as LogEvent).event).filter((event) => event === 'unreadable-state').length).toBe(1);
  const whole = join(root, 'states-whole');
  await run(recipe, { out: whole });
  for (const stage of ['align', 'instruct'] as const) expect(outcome(out)[stage]).toEqual(outcome(whole)[stage]);
});

test('a run that is broken off before it has learned anything more leaves its state as it is', async () => {
  const out = join(root, 'twice');
  await brokenOff(recipe, out, { stage: 'align', step: 3, save: { keep: 1 } });
  const state = join(out, 'state/align-00000003');
  const { ino } = statSync(state);
  const controller = new AbortController();
  const log = ({ event }: LogEvent): void => {
    if (event === 'resume') controller.abort();
  };
  const again = await run(recipe, { out, resume: true, signal: controller.signal, save: { keep: 1 }, log });
  expect([again.stopped, statSync(state).ino]).toEqual([true, ino]);
  await run(recipe, { out, resume: true });
  const whole = join(root, 'once');
  await run(recipe, { out: whole });
  expect(outcome(out)).toEqual(outcome(whole));
});

test('what was not finite is drawn so when the run is resumed', async () => {
  const out = join(root, 'infinite');
  await brokenOff(recipe, out, { stage: 'align', step: 3 });
  const metrics = join(out, 'metrics.jsonl');
  // as long as before, for the state knows how long the file was
  const text = readFileSync(metrics, 'utf8').replace(/(?<="gradNorm":)[^,]*/, (norm) => 'null'.padEnd(norm.length));
  writeFileSync(metrics, text);
  await run(recipe, { out, resume: true });
  const [file = ''] = readdirSync(join(out, 'tensorboard'));
  const drawn = readFileSync(join(out, 'tensorboard', file));
  const tag = 'align/gradient norm';
  const values: number[] = [];
  for (let at = drawn.indexOf(tag); at >= 0; at = drawn.indexOf(tag, at + 1)) values.push(drawn.readFloatLE(at + tag.length + 1));
  expect(values.map(Number.isFinite)).toEqual([false, true, true, true, true]);
});

test('another recipe, other data and a run that is there are told before anything is trained', async () => {
  const out = join(root, 'other');
  await brokenOff(recipe, out, { stage: 'align', step: 3 });
  await expect(run(recipe, { out })).rejects.toThrow(/other\/state exists already/);
  const [first, ...rest] = recipe.stages as [Recipe['stages'][number], ...Recipe['stages']];
  const changed = { ...recipe, seed: 3, stages: [{ ...first, batchSize: 4 }, ...rest] };
  await expect(run(changed, { out, resume: true })).rejects.toThrow(
    `${out} holds a run of another recipe:\nseed: 0 then, 3 now\nstages.0.batchSize: 8 then, 4 now`,
  );
  const file = join(root, 'tiny/captions.json');
  const text = readFileSync(file, 'utf8');
  await writeFile(file, text.replace('a red square', 'a red circle'));
  await expect(run(recipe, { out, resume: true })).rejects.toThrow(
    /data has changed since .*align-00000003 was saved: tiny\/captions.json$/,
  );
  await writeFile(file, text);
  expect((await run(recipe, { out, resume: true })).stopped).toBe(false);
});

test('resuming where nothing is starts from the beginning', async () => {
  const out = join(root, 'fresh');
  expect((await run(recipe, { out, resume: true })).stages.map(({ steps }) => steps.length)).toEqual([5, 5]);
});

test('a run that was refused before anything was saved may begin again by another recipe', async () => {
  const out = join(root, 'refused');
  const [first, ...rest] = recipe.stages as [Recipe['stages'][number], ...Recipe['stages']];
  const late = { ...first, learns: { ...first.learns, language: { tune: 'from-layer', layer: 9 } as const } };
  await expect(run({ ...recipe, stages: [late, ...rest] }, { out, resume: true })).rejects.toThrow('it has 2 layers');
  expect((await run(recipe, { out, resume: true })).stages.map(({ steps }) => steps.length)).toEqual([5, 5]);
});

test('rows and steps that are skipped are counted, over breaks too', async () => {
  const rows = JSON.parse(readFileSync(join(root, 'tiny/captions.json'), 'utf8')) as { image: string }[];
  await writeFile(
    join(root, 'tiny/holes.json'),
    JSON.stringify([...rows.slice(0, 3), { ...rows[3], image: 'none.png' }, ...rows.slice(4)]),
  );
  const stages = recipe.stages
    .slice(0, 1)
    .map((stage) => ({ ...stage, data: [{ conversations: 'tiny/holes.json', repeat: 1 }], steps: 8 }));
  await expect(run({ ...recipe, stages })).rejects.toThrow(/holes\.json#3: .*none\.png/);
  const policy = { unusableRows: 'skip', nonFiniteLoss: 'skip' } as const;
  // With float16's range a learning rate of 3 soon makes infinities; which steps does not matter, that they are the same does.
  const wild = stages.map((stage) => ({ ...stage, ...policy, optimizer: { ...stage.optimizer, learningRate: 1e6, maxGradNorm: 0 } }));
  const outcomeOf = async (given: Recipe, out: string, options: TrainOptions = {}) => {
    await run(given, { out, ...options });
    const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const events = lines.map((line) => JSON.parse(line) as LogEvent);
    return {
      counted: events.find(({ event }) => event === 'checkpoint'),
      rows: events.filter(({ event }) => event === 'skipped-row').map(({ stage, step }) => `${stage} ${step}`),
      steps: events.filter(({ event }) => event === 'skipped-step').length,
      weights: readFileSync(join(out, 'align/model.safetensors')),
    };
  };
  const sound = { ...recipe, stages: stages.map((stage) => ({ ...stage, ...policy })) };
  const whole = await outcomeOf(sound, join(root, 'holes'));
  expect(whole.counted).toMatchObject({ skippedRows: whole.rows.length, skippedSteps: 0 });
  expect(whole.rows.length).toBeGreaterThan(2);
  for (const place of whole.rows) expect(place).toMatch(/^align [1-8]$/);
  await brokenOff(sound, join(root, 'holes-broken'), { stage: 'align', step: 4 });
  const resumed = await outcomeOf(sound, join(root, 'holes-broken'), { resume: true });
  expect({ ...resumed, counted: { ...resumed.counted, folder: '', time: 0 } }).toEqual({
    ...whole,
    counted: { ...whole.counted, folder: '', time: 0 },
  });
  const mad = await outcomeOf({ ...recipe, stages: wild }, join(root, 'mad'));
  expect(mad.steps).toBeGreaterThan(0);
  expect(mad.counted).toMatchObject({ skippedSteps: mad.steps });
});

test('conversations that are cut are counted, over breaks too', async () => {
  const cutTo = (maxLength: number): Recipe => ({ ...recipe, stages: recipe.stages.slice(0, 1).map((stage) => ({ ...stage, maxLength })) });
  const [loose] = (await run(cutTo(100))).stages;
  const [first] = loose?.steps ?? [];
  expect(loose?.steps.map(({ cut }) => cut)).toEqual([0, 0, 0, 0, 0]);
  // All captions are as long as each other.
  const tight = cutTo((first?.tokens ?? 0) / (first?.examples ?? 1) - 1);
  const out = join(root, 'cut');
  await brokenOff(tight, out, { stage: 'align', step: 2 });
  const [stage] = (await run(tight, { out, resume: true })).stages;
  expect(stage?.steps.map(({ cut }) => cut)).toEqual(loose?.steps.map(({ examples }) => examples));
  const checkpoint = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n').at(-1) ?? '';
  expect(JSON.parse(checkpoint)).toMatchObject({
    event: 'checkpoint',
    cutRows: loose?.steps.reduce((sum, { examples }) => sum + examples, 0),
  });
});

/** A run in a process of its own, from the command line. */
function start(out: string, flags: readonly string[] = []): ChildProcess {
  const main = join(import.meta.dirname, '../../src/cli/main.ts');
  const args = ['--import', 'tsx', main, 'train', join(root, 'recipe.yaml'), '--data', root, '--out', out, '--resume', ...flags];
  return spawn(process.execPath, [...args, '--save-every', '1', '--threads', '1'], { stdio: ['ignore', 'ignore', 'pipe'] });
}

const ended = (child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string }> =>
  new Promise((resolve) => {
    let stderr = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on('close', (code, signal) => resolve({ code, signal, stderr }));
  });

/** Resolves when the run has reported more bytes of metrics than that, `words` among them all, or has ended. */
async function reported(child: ChildProcess, out: string, bytes: number, words = ''): Promise<void> {
  const file = join(out, 'metrics.jsonl');
  while (child.exitCode === null && child.signalCode === null) {
    const metrics = existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
    if (metrics.length > bytes && metrics.includes(words)) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** How often a run is killed; fifty for a thorough look. */
const kills = Number(process.env['TINYLLAVA_KILLS'] ?? 2);

test(
  'a run that is killed at random moments, in the middle of whatever it does, ends with the bits of the unbroken one',
  async () => {
    // Every start but those that are killed in their first seconds does some steps, and there are steps for all of them.
    const long = { ...recipe, stages: recipe.stages.map((stage) => ({ ...stage, steps: 10 + 5 * kills })) };
    writeFileSync(join(root, 'recipe.yaml'), writeRecipe(long));
    const [whole, killed] = [join(root, 'unkilled'), join(root, 'killed')];
    await run(long, { out: whole });
    const random = new Random(4);
    let deaths = 0;
    for (let i = 0; i < kills; i++) {
      const child = start(killed);
      const over = ended(child);
      const metrics = join(killed, 'metrics.jsonl');
      if (random.below(4) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(3000)));
      else await reported(child, killed, existsSync(metrics) ? readFileSync(metrics).length : 0);
      await new Promise((resolve) => setTimeout(resolve, random.below(60)));
      child.kill('SIGKILL');
      const { signal, code } = await over;
      // A quick machine may be done before its last kill.
      if (signal === null) expect(code).toBe(0);
      else deaths += 1;
    }
    expect(deaths).toBeGreaterThan(0);
    const { code, stderr } = await ended(start(killed));
    expect(stderr).not.toMatch(/error/);
    expect(code).toBe(0);
    expect(outcome(killed)).toEqual(outcome(whole));
  },
  60_000 + 20_000 * kills,
);

test(
  'a run that is killed between its best validation and its end has the best weights at the end, and no half of a file is left',
  async () => {
    // So fast that it soon unlearns what the slow warm-up taught it.
    const [first, second] = recipe.stages as [Recipe['stages'][number], Recipe['stages'][number]];
    const validation = { rows: 4, every: 3, keep: 'best', minImprovement: 0 } as const;
    const fast = { ...first, optimizer: { ...first.optimizer, learningRate: 0.3, warmupRatio: 0.5 }, steps: 15 + 5 * kills, validation };
    const given = { ...recipe, stages: [fast, second] };
    writeFileSync(join(root, 'recipe.yaml'), writeRecipe(given));
    const [whole, killed] = [join(root, 'best'), join(root, 'best-killed')];
    await run(given, { out: whole });
    const validations = outcome(whole).metrics.filter(({ event }) => event === 'validation');
    const best = validations.findLast(({ best }) => best === true)?.['step'] as number;
    expect(best).toBeLessThan(fast.steps);
    const metrics = join(killed, 'metrics.jsonl');
    for (let i = 0; i < kills / 2; i++) {
      const child = start(killed);
      const over = ended(child);
      const bytes = existsSync(metrics) ? readFileSync(metrics).length : 0;
      await reported(child, killed, bytes, `"step":${best + 1},`);
      child.kill('SIGKILL');
      expect((await over).signal).toBe('SIGKILL');
    }
    expect(existsSync(join(killed, 'align.best.safetensors'))).toBe(true);
    mkdirSync(join(killed, '.align.1.part'));
    writeFileSync(join(killed, '.align.best.safetensors.1.part'), 'half');
    const { code, stderr } = await ended(start(killed));
    expect(stderr).not.toMatch(/error/);
    expect(code).toBe(0);
    expect(outcome(killed)).toEqual(outcome(whole));
    expect(readdirSync(killed).sort()).toEqual(readdirSync(whole).sort());
  },
  60_000 + 20_000 * kills,
);

test('a second run in the folder of one that is going on is refused and leaves it alone, unless the first was on another host', async () => {
  const [whole, out] = [join(root, 'alone'), join(root, 'shared')];
  await run(recipe, { out: whole });
  const onStep = async ({ step }: { step: number }): Promise<void> => {
    if (step !== 2) return;
    await expect(run(recipe, { out, resume: true })).rejects.toThrow(
      `${out} is being written by another training run (process ${process.pid} on ${hostname()})`,
    );
  };
  await run(recipe, { out, onStep });
  expect(outcome(out)).toEqual(outcome(whole));
  expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
  writeFileSync(join(out, 'training.lock'), JSON.stringify({ host: 'elsewhere', pid: process.pid, started: '' }));
  await run(recipe, { out, resume: true });
  expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
});

test('no stage can be named as something else in the folder of a run', async () => {
  const out = join(root, 'names');
  const validation = { rows: 4, every: 1, keep: 'best', minImprovement: 0 } as const;
  const [first, ...rest] = recipe.stages as [Recipe['stages'][number], ...Recipe['stages']];
  const names: string[] = [];
  const onStep = ({ stage, step }: { stage: string; step: number }): void => {
    if (stage === 'align' && step === 3) names.push(...readdirSync(out));
  };
  await run({ ...recipe, stages: [{ ...first, validation }, ...rest] }, { out, save: { steps: 1 }, onStep });
  expect(names).toEqual(expect.arrayContaining(['align.best.safetensors', 'metrics.jsonl', 'state', 'training.lock']));
  for (const name of [...names, 'samples.jsonl', 'sample-images', '.', '..']) {
    expect(() => parseRecipe({ ...recipe, stages: [{ ...first, name }] }), name).toThrow(/^stages\.0\.name: /);
  }
});

test('what a stage that is done had no time to remove goes when the run is resumed', async () => {
  const out = join(root, 'untidy');
  await brokenOff(recipe, out, { stage: 'instruct', step: 2 });
  writeFileSync(join(out, 'align.best.safetensors'), '');
  await run(recipe, { out, resume: true });
  expect(existsSync(join(out, 'align.best.safetensors'))).toBe(false);
  mkdirSync(join(out, 'state/instruct-00000004'), { recursive: true });
  await run(recipe, { out, resume: true });
  expect(existsSync(join(out, 'state'))).toBe(false);
});

test('parts take the place of those of another number of ranks', () => {
  const path = join(root, 'parts.safetensors');
  const write = (value: number, size: number) => {
    for (let rank = size - 1; rank >= 0; rank--) replaceParts(path, [['w', full([1], value)]], { rank, size, barrier: () => {} });
  };
  const written = () => openParts(path).tensor('w').toArray();
  for (const size of [2, 3, 1, 2]) {
    write(size, size);
    expect(Array.from(written() as Float32Array)).toEqual(new Array(size).fill(size));
  }
});

test('a polite end saves the state, says how to go on and exits with 75', async () => {
  writeFileSync(join(root, 'recipe.yaml'), writeRecipe(recipe));
  const out = join(root, 'polite');
  const child = start(out);
  const over = ended(child);
  await reported(child, out, 300);
  child.kill('SIGTERM');
  const { code, stderr } = await over;
  expect(code).toBe(75);
  expect(stderr).toMatch(/interrupted; go on with --resume/);
  expect((await ended(start(out))).code).toBe(0);
  const whole = join(root, 'impolite');
  await run(recipe, { out: whole });
  expect(outcome(out)).toEqual(outcome(whole));
}, 60_000);

/** A small file system, where this process may make one. */
function smallDisk(folder: string, size = '1100k'): boolean {
  mkdirSync(folder);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

test('a full disk stops the run, names what was saved last and leaves nothing half-written', async ({ skip }) => {
  const disk = join(root, 'disk');
  if (!smallDisk(disk)) skip('file systems cannot be mounted here');
  try {
    const out = join(disk, 'run');
    const attempt = run(recipe, {
      out,
      save: { steps: 2 },
      onStep: ({ step }) => {
        if (step === 3) writeFileSync(join(disk, 'filler'), Buffer.alloc(free(disk) - 60_000));
      },
    });
    await expect(attempt).rejects.toThrow(/align-00000004: cannot be written: .*(ENOSPC|No space left)/);
    await expect(attempt).rejects.toMatchObject({
      hint: `make room and go on with --resume: ${out}/state/align-00000002 was saved whole before`,
    });
    expect(readdirSync(join(out, 'state'))).toEqual(['align-00000002']);
    rmSync(join(disk, 'filler'));
    const saved = join(root, 'rescued');
    cpSync(out, saved, { recursive: true });
    await run(recipe, { out: saved, resume: true });
    const whole = join(root, 'unrescued');
    await run(recipe, { out: whole });
    expect(outcome(saved)).toEqual(outcome(whole));
  } finally {
    execFileSync('umount', [disk]);
  }
});

test('a disk that is full when a run begins leaves no half of its recipe', async ({ skip }) => {
  const disk = join(root, 'disk-recipe');
  if (!smallDisk(disk)) skip('file systems cannot be mounted here');
  try {
    const out = join(disk, 'run');
    // room for the lock alone
    writeFileSync(join(disk, 'filler'), Buffer.alloc(free(disk) - 4096));
    await expect(run(recipe, { out })).rejects.toThrow(/ENOSPC/);
    expect(existsSync(join(out, 'recipe.yaml'))).toBe(false);
    rmSync(join(disk, 'filler'));
    expect((await run(recipe, { out, resume: true })).stages.length).toBe(2);
  } finally {
    execFileSync('umount', [disk]);
  }
});

test('a disk that is full for the best weights keeps those from before and the newest states', async ({ skip }) => {
  const disk = join(root, 'disk-best');
  if (!smallDisk(disk, '2m')) skip('file systems cannot be mounted here');
  try {
    const out = join(disk, 'run');
    const validation = { rows: 4, every: 2, keep: 'best', minImprovement: 0 } as const;
    const given = { ...recipe, stages: recipe.stages.map((stage, i) => (i === 0 ? { ...stage, steps: 6, validation } : stage)) };
    const attempt = run(given, {
      out,
      save: { steps: 1, keep: 1 },
      onStep: ({ step }) => {
        if (step === 4) writeFileSync(join(disk, 'filler'), Buffer.alloc(free(disk) - 60_000));
      },
    });
    await expect(attempt).rejects.toThrow(/align\.best\.safetensors: cannot be written: .*(ENOSPC|No space left)/);
    await expect(attempt).rejects.toMatchObject({ hint: expect.stringContaining('state/align-00000003 was saved whole before') });
    expect(readdirSync(out).filter((name) => name.startsWith('.') || name.includes('best'))).toEqual(['align.best.safetensors']);
    rmSync(join(disk, 'filler'));
    const saved = join(root, 'rescued-best');
    cpSync(out, saved, { recursive: true });
    await run(given, { out: saved, resume: true });
    const whole = join(root, 'unrescued-best');
    await run(given, { out: whole });
    expect(outcome(saved)).toEqual(outcome(whole));
  } finally {
    execFileSync('umount', [disk]);
  }
});

const free = (folder: string): number => Number(execFileSync('df', ['--output=avail', '-B1', folder]).toString().split('\n')[1]);
