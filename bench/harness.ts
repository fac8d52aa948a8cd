import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { busySeconds, quiet } from './machine.ts';

/** What one process measured, by metric; `check` must be the same for all, or they did not do the same work. */
export interface Measurement {
  readonly metrics: Readonly<Record<string, number>>;
  readonly check?: readonly number[];
  readonly versions: string;
}

/** What a metric is, and what its ratio, ours by theirs, should reach. */
export interface Metric {
  readonly name: string;
  /** The peers' metric that ours is compared with, where they have none of this name. */
  readonly against?: string;
  readonly unit: string;
  readonly better: 'lower' | 'higher';
  /** May depend on the variant. */
  readonly target?: number | ((variant: readonly string[]) => number);
}

/** A way to do the work in Python. */
export interface Peer {
  readonly name: string;
  /** What it is, for the page. */
  readonly how?: string;
  /** A module that Python needs besides torch and transformers; the peer is skipped where it is absent. */
  readonly needs?: string;
  /** Whether it compiles C++; it is skipped where there is no compiler. */
  readonly compiles?: true;
}

/** One question: the same work by our program and by peers in Python, on data that the Python side made. */
export interface Benchmark {
  readonly name: string;
  readonly question: string;
  /** Work that all do, one process each and round; the words are arguments of both programs. */
  readonly variants: readonly (readonly string[])[];
  /** The ways that the Python program knows, by the name that it is given as its last word; without them it knows one and is given none. */
  readonly peers?: readonly Peer[];
  /** A module that Python needs besides torch and transformers; the benchmark is skipped where it is absent. */
  readonly needs?: string;
  readonly metrics: readonly Metric[];
  /** How far apart the numbers of `check` may be, relative to the larger. */
  readonly tolerance?: number;
}

/** Processes that ran one after the other, ours and one of each peer; `disturbed` when others took more than a tenth of the machine during any of them. */
export interface Round {
  readonly ours: Measurement;
  readonly peers: ReadonlyMap<string, Measurement>;
  readonly disturbed: boolean;
}

/** How it is run: `threads` on all sides, `rounds` of processes, and how long to wait for a quiet machine before each. */
export interface Settings {
  readonly python: string;
  readonly data: string;
  readonly threads: number;
  readonly rounds: number;
  readonly patienceSeconds: number;
}

const folder = import.meta.dirname;
const root = join(folder, '..');
const compiled = join(root, 'build/bench/compiled');

/** Compiles our programs with the library, as users run it: a compiler in the process would count as its memory. */
export function compile(): void {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stdout);
  copyFileSync(join(root, 'package.json'), join(compiled, 'package.json'));
}

/** Runs a program whose last line on standard output is JSON. */
async function output(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
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
    TINYLLAVA_ADDON: join(root, 'build/tinyllava.node'),
    HF_HUB_OFFLINE: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

/** One process, and the share of the machine that others took meanwhile. */
interface Measured {
  readonly measurement: Measurement;
  readonly foreign: number;
}

async function measure(command: string, args: readonly string[], { threads, patienceSeconds }: Settings): Promise<Measured> {
  await quiet({ patienceSeconds });
  const [started, busy, own] = [performance.now(), busySeconds(), childSeconds()];
  const measurement = JSON.parse(await output(command, args, environment(threads))) as Measurement & { cpuSeconds: number };
  const elapsed = (performance.now() - started) / 1000;
  const foreign = busy === undefined ? 0 : (busySeconds() ?? 0) - busy - (childSeconds() - own) - measurement.cpuSeconds;
  return { measurement, foreign: foreign / (elapsed * cpus().length) };
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

/** The only peer of a benchmark that names none. */
const python: Peer = { name: 'Python' };

/** The peers of a benchmark. */
export const peersOf = ({ peers }: Benchmark): readonly Peer[] => peers ?? [python];

/** One round of a variant: ours and each of the peers, beginning with another in every round. */
export async function round(
  { name }: Benchmark,
  { variant, peers, index, settings }: { variant: readonly string[]; peers: readonly Peer[]; index: number; settings: Settings },
): Promise<Round> {
  const words = [join(settings.data, name), ...variant];
  const ours = (): Promise<Measured> => measure(process.execPath, [join(compiled, 'bench', name, 'ours.js'), ...words], settings);
  const theirs = (peer: Peer) => (): Promise<Measured> =>
    measure(settings.python, [join(folder, name, 'theirs.py'), 'run', ...words, ...(peer === python ? [] : [peer.name])], settings);
  const sides = [ours, ...peers.map(theirs)];
  const measured: Measured[] = [];
  for (let i = 0; i < sides.length; i++) {
    const side = (index + i) % sides.length;
    measured[side] = await (sides[side] as typeof ours)();
  }
  const [first, ...rest] = measured as [Measured, ...Measured[]];
  return {
    ours: first.measurement,
    peers: new Map(peers.map((peer, i) => [peer.name, (rest[i] as Measured).measurement])),
    disturbed: measured.some(({ foreign }) => foreign > 0.1),
  };
}

/** The peers that did not compute what ours did, by the numbers that they report for it. */
export function differing({ tolerance = 1e-3 }: Benchmark, { ours, peers }: Round): string[] {
  const same = (a: readonly number[], b: readonly number[]): boolean =>
    a.length === b.length && a.every((value, i) => Math.abs(value - (b[i] ?? 0)) <= tolerance * Math.max(Math.abs(value), 1e-9));
  return [...peers].filter(([, { check }]) => !same(ours.check ?? [], check ?? [])).map(([name]) => name);
}
