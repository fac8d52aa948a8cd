import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
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

/** Runs a job in processes of its own and gives what each printed, by rank; undefined for one that died. */
export async function ranks(size: number, job: Omit<RankJob, 'place'>): Promise<(RankResult | undefined)[]> {
  const port = await freePort();
  const run = (rank: number): Promise<RankResult | undefined> =>
    new Promise((resolve) => {
      const told = JSON.stringify({ ...job, place: { rank, size, host: '127.0.0.1', port } } satisfies RankJob);
      const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'rank.ts'), told], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.on('data', (piece: Buffer) => {
        text += piece.toString();
      });
      child.on('close', () => resolve(text === '' ? undefined : (JSON.parse(text) as RankResult)));
    });
  return Promise.all(Array.from({ length: size }, (_, rank) => run(rank)));
}
