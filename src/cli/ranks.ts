import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { ConfigError, TinyLlavaError } from '../errors.ts';
import { jobFromEnvironment } from '../train/job.ts';
import type { DeviceFlags } from './options.ts';
import { describeError, Interrupted, resumable } from './print.ts';

/** What a rank tells the process that started it: why it ends, and whether only because another did. */
interface Farewell {
  readonly failure: string;
  readonly followed: boolean;
}

/** Set for the ranks that `launchRanks` starts. */
const launched = 'TINYLLAVA_LAUNCHED';

/** How long ranks have to end by themselves, in milliseconds. */
const [patience, grace] = [3000, 10_000];

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address ? address.port : 0;
}

const delay = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds).unref());

/**
 * Runs this command in `count` processes that train together; rank 0 speaks for all. The first that fails ends the others, and its error is this
 * one's. Signals are passed on.
 */
export async function launchRanks(count: number, argv: readonly string[], { threads }: Pick<DeviceFlags, 'threads'>): Promise<void> {
  const job = jobFromEnvironment(process.env);
  if (job) {
    throw new ConfigError(
      `--processes starts ranks, but by its environment this process is rank ${job.place.rank} of ${job.place.size} already`,
      {
        hint: 'leave --processes away behind torchrun and srun, or unset RANK and WORLD_SIZE',
      },
    );
  }
  const port = await freePort();
  const each = threads === undefined ? ['--threads', String(Math.max(1, Math.floor(availableParallelism() / count)))] : [];
  const [program = '', ...args] = argv;
  const children = Array.from({ length: count }, (_, rank) => {
    const place = { RANK: rank, LOCAL_RANK: rank, WORLD_SIZE: count, MASTER_ADDR: '127.0.0.1', MASTER_PORT: port, [launched]: 1 };
    const env = { ...process.env, ...Object.fromEntries(Object.entries(place).map(([name, value]) => [name, String(value)])) };
    const [out, err] = rank === 0 ? (['inherit', 'inherit'] as const) : (['ignore', 'pipe'] as const);
    // Apart from the terminal, whose Ctrl-C would come a second time.
    return fork(program, [...args, ...each], { env, detached: true, stdio: ['ignore', out, err, 'ipc'] });
  });
  for (const [rank, { stderr }] of children.entries()) {
    if (stderr) createInterface({ input: stderr }).on('line', (line) => process.stderr.write(`[rank ${rank}] ${line}\n`));
  }
  const pass = (signal: NodeJS.Signals): void => {
    for (const child of children) child.kill(signal);
  };
  process.on('SIGINT', pass).on('SIGTERM', pass);
  try {
    await watchOver(children);
  } finally {
    process.off('SIGINT', pass).off('SIGTERM', pass);
  }
}

/** Waits until all have ended well. Throws what the first failed with; none is then left. */
async function watchOver(children: readonly ChildProcess[]): Promise<void> {
  const farewells = new Map<number, Farewell>();
  const ended = children.map(async (child, rank) => {
    child.on('message', (farewell: Farewell) => farewells.set(rank, farewell));
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    return { rank, code, signal };
  });
  const fallen: Awaited<(typeof ended)[number]>[] = [];
  const first = new Promise<void>((resolve) => {
    for (const end of ended) {
      void end.then((how) => {
        if (how.code === 0) return;
        fallen.push(how);
        resolve();
      });
    }
  });
  await Promise.race([first, Promise.all(ended)]);
  if (fallen.length === 0) return;
  // The others find out by themselves who is gone, and those that were told to stop save what they have.
  await Promise.race([Promise.all(ended), delay(fallen[0]?.code === resumable ? 600_000 : patience)]);
  for (const child of children) child.kill('SIGTERM');
  await Promise.race([Promise.all(ended), delay(grace)]);
  for (const child of children) child.kill('SIGKILL');
  if (fallen.every(({ code }) => code === resumable)) throw new Interrupted('interrupted; go on with --resume', { exitCode: resumable });
  throw new TinyLlavaError(...reason(fallen, farewells));
}

/** Why the job failed: what a rank says whose own failure it was, else who died. */
function reason(
  fallen: readonly { rank: number; code: number | null; signal: NodeJS.Signals | null }[],
  farewells: ReadonlyMap<number, Farewell>,
): [string, { hint: string }?] {
  const own = [...farewells].find(([, { followed }]) => !followed);
  if (own) {
    const [message = '', hint] = own[1].failure.replace(/^error: /, '').split('\n  fix: ');
    return [`rank ${own[0]}: ${message}`, ...(hint === undefined ? [] : [{ hint }])] as [string, { hint: string }?];
  }
  const killed = fallen.find(({ rank, code }) => code === null || !farewells.has(rank)) ?? fallen[0];
  const how = killed?.signal ? `ended by ${killed.signal}` : `ended with code ${killed?.code}`;
  const hint = killed?.signal === 'SIGKILL' ? 'the memory may not be enough; go on with --resume' : 'go on with --resume';
  return [`rank ${killed?.rank} ${how}`, { hint }];
}

/** In a rank that was launched: leaves the telling of an error to who launched it, and goes when that is gone. */
export async function asRank(body: () => Promise<void>): Promise<void> {
  if (process.env[launched] === undefined || !process.send) return body();
  const leave = (): void => void process.kill(process.pid, 'SIGTERM');
  process.on('disconnect', leave);
  process.channel?.unref();
  try {
    await body();
  } catch (error) {
    const { LostRankError } = await import('../tensor/distributed.ts');
    if (error instanceof Interrupted) throw new Interrupted('', { exitCode: error.exitCode });
    const farewell: Farewell = { failure: describeError(error, process.env), followed: error instanceof LostRankError };
    await new Promise((resolve) => process.send?.(farewell, resolve));
    throw new Interrupted('', { exitCode: 1 });
  } finally {
    process.off('disconnect', leave);
    if (process.connected) process.disconnect();
  }
}
