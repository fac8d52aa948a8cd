import { availableParallelism, cpus } from 'node:os';
import type { ReportFact } from '../../evaluate/html/data.ts';
import { count } from '../../evaluate/html/format.ts';
import { libtorch, memory, threads } from '../../tensor/device.ts';
import { version } from '../../version.ts';

/** One line of a report's facts. */
export const fact = (name: string, value: string | number): ReportFact => ({
  name,
  value: typeof value === 'number' ? count(value) : value,
});

/** What a run was done with and on. */
export function environmentFacts(seed: number): ReportFact[] {
  const torch = libtorch();
  return [
    fact('seed', String(seed)),
    fact('tinyllava', version),
    fact('Node', process.versions.node),
    fact('libtorch', `${torch.version}, ${torch.capability}`),
    fact('processor', cpus()[0]?.model.trim() || 'unknown'),
    fact('threads', `${threads()} of ${availableParallelism()}`),
    fact('peak memory', `${(memory().peakRssBytes / 1e9).toFixed(1)} GB`),
    fact('finished', `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`),
  ];
}
