import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Place, Traffic } from '../../src/tensor/distributed.ts';
import type { StageResult, TrainOptions } from '../../src/train/trainer.ts';

/** What a rank is told. */
export interface RankJob {
  readonly place: Place;
  /** The file of a recipe. */
  readonly recipe: string;
  readonly options: Omit<TrainOptions, 'group' | 'signal' | 'onStep'>;
  /** Steps behind which rank 0 asks for an end, or dies. */
  readonly stopBehind?: { readonly stage: string; readonly step: number };
  readonly killBehind?: { readonly stage: string; readonly step: number };
}

/** What came of a rank. */
export interface RankResult {
  readonly stages?: readonly StageResult[];
  readonly stopped?: boolean;
  readonly traffic?: Traffic;
  readonly error?: string;
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Where the ranks run, and what happens to them. */
export interface Surroundings {
  readonly host?: string;
  /** What a rank's command begins with. */
  readonly prefix?: (rank: number) => readonly string[];
  /** Called when all have started. */
  readonly during?: (children: readonly ChildProcess[]) => Promise<void>;
}

/** Runs a job in processes of its own and gives what each printed, by rank; undefined for one that died. */
export async function ranks(
  size: number,
  job: Omit<RankJob, 'place'>,
  { host = '127.0.0.1', prefix = () => [], during }: Surroundings = {},
): Promise<(RankResult | undefined)[]> {
  const port = await freePort();
  const children = Array.from({ length: size }, (_, rank) => {
    const told = JSON.stringify({ ...job, place: { rank, size, host, port } } satisfies RankJob);
    const [program = '', ...args] = [...prefix(rank), process.execPath, '--import', 'tsx', join(import.meta.dirname, 'rank.ts'), told];
    return spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  });
  const results = children.map(async ({ stdout }) => {
    const printed = await text(stdout);
    return printed === '' ? undefined : (JSON.parse(printed) as RankResult);
  });
  await during?.(children);
  return Promise.all(results);
}
