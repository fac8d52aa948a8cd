import { expect, test } from 'vitest';
import { jobFromEnvironment } from '../../src/train/job.ts';

const torchrun = {
  RANK: '3',
  LOCAL_RANK: '1',
  WORLD_SIZE: '4',
  LOCAL_WORLD_SIZE: '2',
  MASTER_ADDR: '10.0.0.1',
  MASTER_PORT: '29500',
  TORCHELASTIC_USE_AGENT_STORE: 'True',
  TORCHELASTIC_RESTART_COUNT: '2',
};
const slurm = {
  SLURM_JOB_ID: '123456',
  SLURM_STEP_ID: '0',
  SLURM_PROCID: '0',
  SLURM_LOCALID: '0',
  SLURM_NTASKS: '8',
  SLURM_STEP_NUM_TASKS: '4',
  SLURM_JOB_NODELIST: 'n[1-4]',
  SLURM_STEP_NODELIST: 'n[1-2]',
};

test('torchrun says rank, attempt and where its agent serves the rendezvous', () => {
  const place = { rank: 3, size: 4, host: '10.0.0.1', port: 29_500, serves: false, attempt: 2 };
  expect(jobFromEnvironment(torchrun)).toEqual({ place, localRank: 1 });
  expect(jobFromEnvironment({ ...torchrun, RANK: '0' })?.place.serves).toBe(false);
});

test('the variables alone, as set by hand or by Kubernetes, have rank 0 serve the rendezvous', () => {
  const env = { RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: 'job-master-0', MASTER_PORT: '23456' };
  const place = { rank: 0, size: 2, host: 'job-master-0', port: 23_456, serves: true, attempt: 0 };
  expect(jobFromEnvironment(env)).toEqual({ place, localRank: 0 });
  expect(jobFromEnvironment({ ...env, RANK: '1' })?.place.serves).toBe(false);
});

test("srun's tasks meet at the first host of their step, at a port of their job", () => {
  const place = { rank: 0, size: 4, host: 'n1', port: 23_456, serves: true, attempt: 0 };
  expect(jobFromEnvironment(slurm)).toEqual({ place, localRank: 0 });
  expect(jobFromEnvironment({ ...slurm, MASTER_ADDR: '10.0.0.1', MASTER_PORT: '29500' })?.place).toMatchObject({
    host: '10.0.0.1',
    port: 29_500,
  });
  // torchrun under srun speaks for itself.
  expect(jobFromEnvironment({ ...slurm, ...torchrun })?.place.rank).toBe(3);
});

test.each([
  ['n1', 'n1'],
  ['gpu-a,gpu-b', 'gpu-a'],
  ['node[03-05,7],other', 'node03'],
  ['rack2-node[11,15]', 'rack2-node11'],
])('the first host of %s is %s', (list, host) => {
  expect(jobFromEnvironment({ ...slurm, SLURM_STEP_NODELIST: list })?.place.host).toBe(host);
});

test.each([
  ['nothing', {}],
  ['a job of one', { RANK: '0', WORLD_SIZE: '1' }],
  ['one task of srun', { ...slurm, SLURM_STEP_NUM_TASKS: '1' }],
  ['a batch script of SLURM, which is no task of srun', { ...slurm, SLURM_STEP_ID: undefined }],
])('%s trains alone', (_, env) => {
  expect(jobFromEnvironment(env)).toBeUndefined();
});

test.each([
  [{ RANK: undefined }, "RANK is not set, but others of a job's variables are"],
  [{ MASTER_ADDR: undefined, MASTER_PORT: undefined }, "MASTER_ADDR and MASTER_PORT are not set, but others of a job's variables are"],
  [{ WORLD_SIZE: undefined }, "WORLD_SIZE is not set, but others of a job's variables are"],
  [{ RANK: '4' }, 'RANK=4, but there are only 4 processes (WORLD_SIZE)'],
  [{ RANK: '-1' }, 'RANK=-1 is no whole number'],
  [{ RANK: '' }, 'RANK= is no whole number'],
  [{ WORLD_SIZE: 'four' }, 'WORLD_SIZE=four is no whole number'],
  [{ LOCAL_RANK: '0.5' }, 'LOCAL_RANK=0.5 is no whole number'],
  [{ MASTER_PORT: '65536' }, 'MASTER_PORT=65536 is no port: they go from 1 to 65535'],
  [{ MASTER_PORT: '0' }, 'MASTER_PORT=0 is no port: they go from 1 to 65535'],
  [{ MASTER_ADDR: '' }, 'MASTER_ADDR is empty'],
])('%o is one error', (wrong, message) => {
  expect(() => jobFromEnvironment({ ...torchrun, ...wrong })).toThrow(expect.objectContaining({ name: 'ConfigError', message }));
});
