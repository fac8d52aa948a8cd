import { readFileSync } from 'node:fs';
import { libtorch, setThreads, threads } from '../src/tensor/device.ts';
import type { Measurement } from './harness.ts';

setThreads(Number(process.env['OMP_NUM_THREADS'] ?? 2));

/** Seconds that cores were busy for this process. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** The median of what `body` takes in milliseconds, over `times` runs after `warmup` that do not count. */
export function milliseconds(body: () => void, { times, warmup }: { times: number; warmup: number }): number {
  const taken: number[] = [];
  for (let i = 0; i < warmup + times; i++) {
    const start = performance.now();
    body();
    if (i >= warmup) taken.push(performance.now() - start);
  }
  return taken.toSorted((a, b) => a - b)[times >> 1] ?? Number.NaN;
}

/** Prints the measurement as the last line, with the peak memory of this process. */
export function print({ metrics, check }: Pick<Measurement, 'metrics' | 'check'>): void {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  const { maxRSS } = process.resourceUsage();
  const versions = `tinyllava ${version}, libtorch ${libtorch().version} (${libtorch().capability}), Node ${process.versions.node}, ${threads()} threads`;
  console.log(JSON.stringify({ metrics: { ...metrics, 'peak memory': maxRSS / 1024 }, check, versions, cpuSeconds: cpuSeconds() }));
}
