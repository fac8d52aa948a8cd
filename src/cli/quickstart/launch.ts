import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../../errors.ts';
import { count, duration, percent, short as shortNumber } from '../../evaluate/html/format.ts';
import type { Log, LogEvent } from '../../log.ts';
import { train } from '../../train/trainer.ts';
import { type Extent, full, quickstartRecipe, short, writeTrainingData } from './plan.ts';
import { finishedAt, occupant } from './run-folder.ts';
import type { StatusLine } from './status-line.ts';

/** What the command line says about how much is done. */
export interface Wishes {
  readonly out: string;
  readonly seed: number;
  readonly minutes?: number;
  readonly short?: true;
}

/** Says what will happen to the folder. Throws ConfigError when the run cannot go there or the wishes make no sense. */
export async function announce(line: StatusLine, { out, minutes }: Wishes): Promise<void> {
  if (minutes !== undefined && minutes <= 0)
    throw new ConfigError(`--minutes ${minutes}: expected more than 0`, { hint: 'try --minutes 3, or --short' });
  if ((await occupant(out)) === 'nothing') return;
  const finished = (await finishedAt(out))?.slice(0, 16).replace('T', ' ');
  line.say(
    `${out} holds a run${finished === undefined ? '' : ` of ${finished} UTC`}; it stays until this one is done, and is then replaced.`,
  );
}

/** What a run of this extent sets out to reach; a short one reaches nothing. */
export const goalsFor = ({ short }: Wishes): Readonly<Record<string, number>> =>
  short ? {} : { all: 0.96, shape: 0.97, colour: 0.97, 'yes/no': 0.95 };

/** Steps to time in each stage; the first ones, in which memory is first asked for, are left out. */
const timedSteps = 12;
const warmUpSteps = 4;

/** How much is done: for `minutes` the recipe's steps, stretched or shortened by what a few steps take on this machine. */
export async function extentFor(
  { seed, minutes, short: wanted }: Wishes,
  { data, line, signal }: { readonly data: string; readonly line: StatusLine; readonly signal: AbortSignal },
): Promise<Extent> {
  if (wanted) return short;
  if (minutes === undefined) return full;
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  try {
    line.update(['timing a few steps']);
    await writeTrainingData(data, join(folder, 'data'), { seed });
    const { stages } = await quickstartRecipe({ seed, steps: {} });
    const recipe = await quickstartRecipe({ seed, steps: Object.fromEntries(stages.map(({ name }) => [name, timedSteps])) });
    const timed = await train(recipe, { root: folder, signal });
    signal.throwIfAborted();
    const perStep = timed.stages.map(
      ({ steps }) => ((steps.at(-1)?.seconds ?? 0) - (steps[warmUpSteps - 1]?.seconds ?? 0)) / (timedSteps - warmUpSteps),
    );
    const whole = stages.reduce((sum, { steps = 0 }, i) => sum + steps * (perStep[i] ?? 0), 0);
    const scale = (60 * minutes) / whole;
    const steps = stages.map(({ name, steps = 0 }) => [name, Math.max(1, Math.round(steps * scale))] as const);
    const planned = steps.map(([name, n]) => `${name} ${count(n)}`).join(', ');
    line.say(`The recipe takes ${duration(whole)} here; steps for ${minutes} min: ${planned}.`);
    return { ...full, steps: Object.fromEntries(steps) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const name = (text: unknown): string => String(text).padEnd(9);

/** Shows what goes on, a line for each part of the run. */
export function progress(line: StatusLine): Log {
  const seen: { loss?: number; startMs: number } = { startMs: performance.now() };
  const handlers: Readonly<Record<string, (event: LogEvent) => void>> = {
    data: ({ captions, questions }) =>
      line.finish([name('data'), `${count(Number(captions))} captions`, `${count(Number(questions))} questions`]),
    stage: () => {
      seen.startMs = performance.now();
      delete seen.loss;
    },
    step: ({ stage, step, steps, loss, secondsLeft, tokensPerSecond }) => {
      seen.loss = seen.loss === undefined ? Number(loss) : 0.95 * seen.loss + 0.05 * Number(loss);
      const done = Math.floor((100 * Number(step)) / Number(steps));
      const share = `${done} %`.padStart(5);
      const mean = `loss ${seen.loss.toFixed(3)}`;
      const rate = `${shortNumber(Math.round(Number(tokensPerSecond)))} tokens/s`;
      if (step === steps) line.finish([name(stage), share, mean, duration((performance.now() - seen.startMs) / 1000), rate]);
      else line.update([name(stage), share, `${duration(Number(secondsLeft))} left`, mean, rate, `step ${step} of ${steps}`]);
    },
    curve: ({ noun }) => {
      if (typeof noun === 'number') line.finish([name('held out'), `nouns right ${plainPercent(noun)}`]);
    },
    evaluating: () => {
      seen.startMs = performance.now();
    },
    answered: ({ done, samples, meanScore }) =>
      line.update([
        name('test'),
        `${Math.floor((100 * Number(done)) / Number(samples))} %`.padStart(5),
        `right ${plainPercent(Number(meanScore))}`,
      ]),
    evaluated: ({ samples }) =>
      line.finish([name('test'), `${count(Number(samples))} questions`, duration((performance.now() - seen.startMs) / 1000)]),
  };
  return (event) => handlers[event.event]?.(event);
}

const plainPercent = (share: number): string => percent(share).replace('\u00a0', ' ');
