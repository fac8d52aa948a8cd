import { type ChildProcess, spawn } from 'node:child_process';
import { run } from '../../src/cli/program.ts';

/** What a command wrote, and how it ended. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line in this process. */
export async function tinyllava(...argv: string[]): Promise<Outcome> {
  const written = { stdout: '', stderr: '' };
  const real = { stdout: process.stdout.write, stderr: process.stderr.write };
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (text: string | Uint8Array): boolean => {
      written[name] += String(text);
      return true;
    };
  }
  const before = process.exitCode;
  try {
    const code = await run(argv);
    return { code, ...written };
  } finally {
    for (const name of ['stdout', 'stderr'] as const) process[name].write = real[name];
    process.exitCode = before ?? 0;
  }
}

/** How the command line is started: by a shell that goes on behind it, by another program, with further variables. */
interface StartOptions {
  readonly shell?: string;
  readonly launcher?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts the command line as a process of its own, from the sources. */
export function start(
  argv: readonly string[],
  { shell = '', launcher = [], env = {} }: StartOptions = {},
): { child: ChildProcess; outcome: Promise<Outcome> } {
  const command = [...launcher, process.execPath, '--import', 'tsx', 'src/cli/main.ts', ...argv];
  const child =
    shell === ''
      ? spawn(command[0] ?? '', command.slice(1), { env: { ...process.env, ...env } })
      : spawn('bash', ['-c', `${command.map((word) => `'${word}'`).join(' ')} ${shell}`]);
  const written = { stdout: '', stderr: '' };
  child.stdout?.on('data', (data) => {
    written.stdout += data;
  });
  child.stderr?.on('data', (data) => {
    written.stderr += data;
  });
  const outcome = new Promise<Outcome>((resolve) => child.on('close', (code) => resolve({ code, ...written })));
  return { child, outcome };
}
