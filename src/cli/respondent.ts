import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import type { Endpoint } from '../evaluate/respondent/endpoint.ts';
import type { Processes } from '../evaluate/respondent/processes.ts';
import type { ChatModel } from '../generate/generate.ts';
import { type ModelFlags, openModel } from './options.ts';

/** Who is asked, and how it is reached. */
export interface RespondentFlags extends ModelFlags {
  readonly batchSize: number;
  readonly processes: number;
  readonly baseUrl?: string;
}

const endpointPrefix = 'openai:';

/** Opens what an argument names: `openai:MODEL` on a server, or a checkpoint folder in this process or in several. Throws ConfigError. */
export async function openRespondent(
  name: string,
  flags: RespondentFlags,
  env: NodeJS.ProcessEnv,
): Promise<ChatModel | Endpoint | Processes> {
  const { processes, baseUrl } = flags;
  if (name.startsWith(endpointPrefix)) {
    const { Endpoint } = await import('../evaluate/respondent/endpoint.ts');
    const key = env['TINYLLAVA_API_KEY'] ?? env['OPENAI_API_KEY'];
    return new Endpoint({ model: name.slice(endpointPrefix.length), baseUrl, key });
  }
  if (baseUrl !== undefined) {
    const { ConfigError } = await import('../errors.ts');
    throw new ConfigError(`--base-url is for endpoints, and ${name} is a folder`, { hint: `write the model as ${endpointPrefix}MODEL` });
  }
  return processes === 1 ? openModel(name, flags) : startProcesses(name, flags);
}

/** Copies of this program that each have their share of the threads. */
async function startProcesses(model: string, flags: RespondentFlags): Promise<Processes> {
  const { processes, batchSize, device, dtype, threads = availableParallelism() } = flags;
  const { Processes } = await import('../evaluate/respondent/processes.ts');
  const share = String(Math.max(1, Math.floor(threads / processes)));
  const argv = ['eval-worker', model, '--batch-size', String(batchSize), '--threads', share];
  const options = [...(device ? ['--device', device] : []), ...(dtype ? ['--dtype', dtype] : [])];
  const program = process.argv[1] ?? '';
  const env = { ...process.env, OMP_NUM_THREADS: share, MKL_NUM_THREADS: share };
  return Processes.start(
    Array.from({ length: processes }, () =>
      fork(program, [...argv, ...options], { env, serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
    ),
  );
}
