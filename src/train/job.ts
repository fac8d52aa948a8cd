import { ConfigError } from '../errors.ts';
import type { Place } from '../tensor/distributed.ts';

/** This process's place in a job, and which of the processes on its machine it is. */
export interface Job {
  readonly place: Place;
  readonly localRank: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

function whole(env: Environment, name: string): number {
  const value = Number(env[name]);
  if (env[name] === '' || !Number.isInteger(value) || value < 0) throw new ConfigError(`${name}=${env[name]} is no whole number`);
  return value;
}

/** The first host of SLURM's list, as `node[03-05,7],other`. */
function firstHost(list: string): string {
  const [, name = list, ranges] = /^([^,[]+)(?:\[([^\]]+)\])?/.exec(list) ?? [];
  return ranges === undefined ? name : name + (/^\d+/.exec(ranges)?.[0] ?? '');
}

/** What SLURM says of a task of `srun`, in the words of PyTorch. */
function fromSlurm(env: Environment): Environment {
  const list = env['SLURM_STEP_NODELIST'] ?? env['SLURM_JOB_NODELIST'] ?? env['SLURM_NODELIST'];
  return {
    RANK: env['SLURM_PROCID'],
    WORLD_SIZE: env['SLURM_STEP_NUM_TASKS'] ?? env['SLURM_NTASKS'],
    LOCAL_RANK: env['SLURM_LOCALID'],
    MASTER_ADDR: env['MASTER_ADDR'] ?? (list === undefined ? undefined : firstHost(list)),
    // Jobs that share a machine do not share a port.
    MASTER_PORT: env['MASTER_PORT'] ?? String(20_000 + (Number(env['SLURM_JOB_ID'] ?? 0) % 10_000)),
  };
}

/**
 * Where this process stands by its environment, as `tinyllava train --processes`, torchrun, the PyTorch operators of Kubernetes and `srun` set it;
 * undefined where it trains alone. Throws ConfigError for one that is set by half.
 */
export function jobFromEnvironment(env: Environment): Job | undefined {
  const said = env['RANK'] === undefined && env['SLURM_PROCID'] !== undefined && env['SLURM_STEP_ID'] !== undefined ? fromSlurm(env) : env;
  if (said['RANK'] === undefined && said['WORLD_SIZE'] === undefined) return undefined;
  const missing = ['RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'].filter((name) => said[name] === undefined);
  if (said['WORLD_SIZE'] === '1') return undefined;
  if (missing.length > 0) {
    throw new ConfigError(`${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not set, but others of a job's variables are`, {
      hint: 'launch with `tinyllava train --processes`, torchrun or srun, or unset RANK and WORLD_SIZE to train alone',
    });
  }
  const [rank, size, port] = [whole(said, 'RANK'), whole(said, 'WORLD_SIZE'), whole(said, 'MASTER_PORT')];
  if (rank >= size) throw new ConfigError(`RANK=${rank}, but there are only ${size} processes (WORLD_SIZE)`);
  if (port < 1 || port > 65_535) throw new ConfigError(`MASTER_PORT=${port} is no port: they go from 1 to 65535`);
  const host = said['MASTER_ADDR'] ?? '';
  if (host === '') throw new ConfigError('MASTER_ADDR is empty', { hint: 'set it to an address of rank 0 that all ranks reach' });
  // torchrun's agent serves the rendezvous itself, which stays when the ranks are started again.
  const serves = rank === 0 && env['TORCHELASTIC_USE_AGENT_STORE'] !== 'True';
  const attempt = env['TORCHELASTIC_RESTART_COUNT'] === undefined ? 0 : whole(env, 'TORCHELASTIC_RESTART_COUNT');
  return {
    place: { rank, size, host, port, serves, attempt },
    localRank: said['LOCAL_RANK'] === undefined ? 0 : whole(said, 'LOCAL_RANK'),
  };
}
