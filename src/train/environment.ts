import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { versions } from 'node:process';
import { promisify } from 'node:util';
import { type Device, libtorch, threads } from '../tensor/device.ts';

/** What a run was made with, for whoever wants to repeat it. */
export interface Environment {
  readonly tinyllava: string;
  readonly libtorch: string;
  readonly instructions: string;
  readonly node: string;
  readonly system: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly device: Device;
  readonly threads: number;
  /** Of the working directory, where it is in a repository. */
  readonly git?: { readonly commit: string; readonly changed: boolean };
  /** How the run was launched, which changes rounding and speed. */
  readonly launch: Readonly<Record<string, unknown>>;
}

async function gitState(): Promise<Environment['git']> {
  const git = async (...args: string[]): Promise<string> => (await promisify(execFile)('git', args)).stdout.trim();
  try {
    return { commit: await git('rev-parse', 'HEAD'), changed: (await git('status', '--porcelain', '--untracked-files=no')) !== '' };
  } catch {
    return undefined; // no git, or no repository
  }
}

/** Looks at the machine. */
export async function environment(device: Device, launch: Readonly<Record<string, unknown>>): Promise<Environment> {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
  const git = await gitState();
  return {
    tinyllava: version,
    libtorch: libtorch().version,
    instructions: libtorch().capability,
    node: versions.node,
    system: `${platform()} ${release()} ${arch()}`,
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    device,
    threads: threads(),
    ...(git && { git }),
    launch,
  };
}
