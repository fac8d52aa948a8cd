import { spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { busySeconds, quiet } from './machine.ts';

/** What one process measured, by metric; `check` must be the same on both sides, or they did not do the same work. */
export interface Measurement {
  readonly metrics: Readonly<Record<string, number>>;
  readonly check?: readonly number[];
  readonly versions: string;
}

/** What a metric is, and what its ratio, ours by theirs, should reach. */
export interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly better: 'lower' | 'higher';
  /** May depend on the variant. */
  readonly target?: number | ((variant: readonly string[]) => number);
}

/** One question: the same work by our program and by one in Python, on data that the Python side made. */
export interface Benchmark {
  readonly name: string;
  readonly question: string;
  /** Work that both sides do, one process a side and round; the words are arguments of both programs. */
  readonly variants: readonly (readonly string[])[];
  /** A module that Python needs besides torch and transformers; the benchmark is skipped where it is absent. */
  readonly needs?: string;
  readonly metrics: readonly Metric[];
  /** How far apart the numbers of `check` may be, relative to the larger. */
  readonly tolerance?: number;
}

/** A pair of processes that ran one after the other; `disturbed` when other processes took more than a tenth of the machine. */
export interface Round {
  readonly ours: Measurement;
  readonly theirs: Measurement;
  readonly disturbed: boolean;
}

/** How it is run: `threads` on both sides, `rounds` pairs, and how long to wait for a quiet machine before each process. */
export interface Settings {
  readonly python: string;
  readonly data: string;
  readonly threads: number;
  readonly rounds: number;
  readonly patienceSeconds: number;
}

const folder = import.meta.dirname;

/** Runs a program whose last line on standard output is JSON. */
async function output(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(command, args, { cwd: join(folder, '..'), env, stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (code !== 0) throw new Error(`${[command, ...args].join(' ')} ended with ${code}`);
  return Buffer.concat(chunks).toString().trim().split('\n').at(-1) ?? '';
}

function environment(threads: number): NodeJS.ProcessEnv {
  return {
    ...process.env,
    OMP_NUM_THREADS: String(threads),
    MKL_NUM_THREADS: String(threads),
    HF_HUB_OFFLINE: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

/** One process; how much of the machine other processes took meanwhile. */
async function measure(command: string, args: readonly string[], { threads, patienceSeconds }: Settings): Promise<[Measurement, number]> {
  await quiet({ patienceSeconds });
  const [started, busy, own] = [performance.now(), busySeconds(), childSeconds()];
  const measurement = JSON.parse(await output(command, args, environment(threads))) as Measurement & { cpuSeconds: number };
  const elapsed = (performance.now() - started) / 1000;
  const foreign = busy === undefined ? 0 : (busySeconds() ?? 0) - busy - (childSeconds() - own) - measurement.cpuSeconds;
  return [measurement, foreign / (elapsed * cpus().length)];
}

// This process itself; its children report their own.
const childSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Makes what both sides work on, by the Python program's `prepare`. */
export async function prepare({ name }: Benchmark, { python, data, threads }: Settings): Promise<void> {
  await output(python, [join(folder, name, 'theirs.py'), 'prepare', join(data, name)], environment(threads));
}

/** One round of a variant: ours, then theirs, or the other way round in odd rounds. */
export async function round({ name }: Benchmark, variant: readonly string[], index: number, settings: Settings): Promise<Round> {
  const words = [join(settings.data, name), ...variant];
  const sides = {
    ours: () => measure(process.execPath, ['--import', 'tsx', join(folder, name, 'ours.ts'), ...words], settings),
    theirs: () => measure(settings.python, [join(folder, name, 'theirs.py'), 'run', ...words], settings),
  };
  const first = index % 2 === 0 ? await sides.ours() : undefined;
  const [theirs, theirForeign] = await sides.theirs();
  const [ours, ourForeign] = first ?? (await sides.ours());
  return { ours, theirs, disturbed: Math.max(ourForeign, theirForeign) > 0.1 };
}

/** Whether both sides computed the same, by the numbers that they report for it. */
export function agree({ tolerance = 1e-3 }: Benchmark, { ours, theirs }: Round): boolean {
  const [a, b] = [ours.check ?? [], theirs.check ?? []];
  return a.length === b.length && a.every((value, i) => Math.abs(value - (b[i] ?? 0)) <= tolerance * Math.max(Math.abs(value), 1e-9));
}
