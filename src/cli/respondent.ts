import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { UsageError } from '../errors.ts';
import type { Endpoint } from '../evaluate/respondent/endpoint.ts';
import type { Processes } from '../evaluate/respondent/processes.ts';
import type { ChatModel } from '../generate/generate.ts';
import type { WorkerFlags } from './eval-worker.ts';
import type { ServerFlags } from './judge-options.ts';
import { openModel } from './options.ts';

/** Who is asked, and how it is reached. */
export interface RespondentFlags extends WorkerFlags, ServerFlags {
  readonly processes?: number;
  readonly baseUrl?: string;
}

const endpointPrefix = 'openai:';

/** What only models of this machine have. */
const here = ['processes', 'device', 'dtype', 'mapped', 'template', 'threads', 'adapter', 'base'] as const;

/** Opens what an argument names: `openai:MODEL` on a server, or a checkpoint folder in this process or in several. Throws ConfigError. */
export async function openRespondent(
  name: string,
  flags: RespondentFlags,
  env: NodeJS.ProcessEnv,
): Promise<ChatModel | Endpoint | Processes> {
  const { processes = 1, baseUrl, timeout } = flags;
  if (name.startsWith(endpointPrefix)) {
    const given = here.find((flag) => flags[flag] !== undefined);
    if (given) throw new UsageError(`--${given} is for models here, and ${name} is behind a server`, { hint: 'leave it out' });
    if (name === endpointPrefix) throw new UsageError(`${name} names no model`, { hint: `write ${endpointPrefix}MODEL` });
    const { Endpoint } = await import('../evaluate/respondent/endpoint.ts');
    const key = env['TINYLLAVA_API_KEY'] ?? env['OPENAI_API_KEY'];
    return new Endpoint({ model: name.slice(endpointPrefix.length), baseUrl, key, timeoutMs: 1000 * timeout });
  }
  if (baseUrl !== undefined) {
    throw new UsageError(`--base-url is for endpoints, and ${name} is a folder`, { hint: `write the model as ${endpointPrefix}MODEL` });
  }
  return processes === 1 ? openModel(name, flags) : startProcesses(name, processes, flags);
}

/** Copies of this program that each have their share of the threads. */
async function startProcesses(model: string, count: number, flags: RespondentFlags): Promise<Processes> {
  const { Processes } = await import('../evaluate/respondent/processes.ts');
  const threads = Math.max(1, Math.floor((flags.threads ?? availableParallelism()) / count));
  const argv = ['eval-worker', model, JSON.stringify({ ...flags, threads } satisfies WorkerFlags)];
  const env = { ...process.env, OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) };
  return Processes.start(
    Array.from({ length: count }, () =>
      fork(process.argv[1] ?? '', argv, { env, serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
    ),
  );
}
