import { existsSync, statfsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { Command } from 'commander';
import { cacheFolder } from './cache.ts';

/** One line of the report: what was looked for, what was found, and how to mend it where it is not as it should be. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  readonly fix?: string;
}

/** What the machine has. `ok` is true when nothing is missing. */
export interface DoctorReport {
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

interface Probe {
  probe(env: NodeJS.ProcessEnv): Finding[];
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

function node(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  const found = `${process.versions.node} (${process.execPath})`;
  return ok ? { name: 'node', ok, found } : { name: 'node', ok, found, fix: 'install Node 20.19 or later (https://nodejs.org)' };
}

function machine(): Finding[] {
  const cores = `${availableParallelism()} (${cpus()[0]?.model.trim() ?? 'unknown'})`;
  const cache = cacheFolder(process.env);
  const existing = existsSync(cache) ? cache : '.';
  const { bavail, bsize } = statfsSync(existing);
  return [
    { name: 'cores', ok: true, found: cores },
    { name: 'memory', ok: true, found: `${gigabytes(freemem())} free of ${gigabytes(totalmem())}` },
    { name: 'disk', ok: true, found: `${gigabytes(bavail * bsize)} free at ${existing}` },
  ];
}

/** Looks at Node, npm packages, Python, the tools that build the addon, libtorch, the addon, the example data and the machine. */
export async function doctor(): Promise<DoctorReport> {
  // Set-up has to run before anything is compiled, so what it looks for is written in plain JavaScript outside src/.
  const { probe }: Probe = await import(new URL('../../scripts/setup/probe.mjs', import.meta.url).href);
  const findings = [node(), ...probe(process.env), ...machine()];
  return { ok: findings.every(({ ok }) => ok), findings };
}

/** The report as lines of text: a mark, a name and what was found, with the fix below what is missing. */
export function renderReport({ ok, findings }: DoctorReport): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const lines = findings.flatMap(({ name, ok, found, fix }) => [
    `${ok ? 'ok     ' : 'missing'}  ${name.padEnd(width)}  ${found}`,
    ...(fix === undefined ? [] : [`${' '.repeat(width + 11)}fix: ${fix}`]),
  ]);
  return [...lines, '', ok ? 'Everything is there.' : '`npm run build` does what it can of these fixes.'].join('\n');
}

/** The verb `doctor`. Exits with 1 when something is missing. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('what the machine has and what is missing')
    .option('--json', 'print one JSON document')
    .action(async ({ json }: { json?: true }) => {
      const report = await doctor();
      console.log(json ? JSON.stringify(report, undefined, 2) : renderReport(report));
      if (!report.ok) process.exitCode = 1;
    });
}
