import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { CheckpointError, NativeError } from '../errors.ts';
import { flush } from '../flush.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { openParts, writeParts } from './parts-files.ts';
import { solo, type Team } from './team.ts';

const StateFacts = z.strictObject({
  version: z.literal(2),
  stage: z.string(),
  /** Steps that were done. */
  step: z.int().nonnegative(),
  /** Where the sampler stands behind that step. */
  sampler: z.strictObject({ epoch: z.int().nonnegative(), position: z.int().nonnegative() }),
  lossScale: z.strictObject({ factor: z.number(), soundSteps: z.int() }).optional(),
  /** Rows and steps that were left out, steps that were left out in a row, and rows that were cut. */
  skipped: z.strictObject({ rows: z.int(), steps: z.int(), together: z.int(), cut: z.int().default(0) }),
  /** Of validations. */
  progress: z
    .strictObject({ best: z.strictObject({ loss: z.number(), step: z.int() }).optional(), worse: z.int(), last: z.int().optional() })
    .optional(),
  /** Of training, all stages together. */
  seconds: z.number(),
  /** How long metrics.jsonl was. */
  metricsBytes: z.int().nonnegative(),
  /** What the stage's data was, file by file. */
  data: z.array(z.string()),
});
/** Where a stage stands, the tensors apart. */
export type StateFacts = z.output<typeof StateFacts>;

/** A saved state: its facts, and the tensors of weights and optimizer. */
export interface TrainingState extends StateFacts {
  readonly folder: string;
  readonly tensors: WeightSource;
}

const [factsFile, tensorsFile] = ['state.json', 'state.safetensors'];
const named = /^(.+)-(\d{8})$/;
const nameOf = ({ stage, step }: Pick<StateFacts, 'stage' | 'step'>): string => `${stage}-${String(step).padStart(8, '0')}`;

/** Removes a folder so that no half of it ever has its name. */
function remove(root: string, name: string): void {
  const doomed = join(root, `.${name}.old`);
  rmSync(doomed, { recursive: true, force: true });
  renameSync(join(root, name), doomed);
  rmSync(doomed, { recursive: true, force: true });
}

/** What a state is made of; `team` are the ranks that keep parts of the tensors, each of which calls with its own. */
export interface StateOptions {
  readonly tensors: Iterable<readonly [string, Tensor]>;
  readonly keep: number;
  readonly team?: Team;
}

/**
 * Writes a state as a folder of its own in `root`: beside it, flushed to the disk, then renamed, so that one with the name is whole whenever the
 * process or the machine dies. Keeps the newest `keep`. Gives the folder. Throws CheckpointError.
 */
export function saveState(root: string, facts: Omit<StateFacts, 'version'>, { tensors, keep, team = solo }: StateOptions): string {
  const name = nameOf(facts);
  const [folder, draft] = [join(root, name), join(root, `.${name}.part`)];
  const leads = team.rank === 0;
  try {
    if (leads) {
      rmSync(draft, { recursive: true, force: true });
      mkdirSync(draft, { recursive: true });
    }
    team.barrier();
    writeParts(join(draft, tensorsFile), tensors, team);
    team.barrier();
    if (leads) {
      writeFileSync(join(draft, factsFile), `${JSON.stringify({ version: 2, ...facts }, undefined, 2)}\n`, { flush: true });
      flush(draft);
      if (existsSync(folder)) remove(root, name);
      renameSync(draft, folder);
      flush(root);
      for (const old of stateNames(root).slice(keep)) remove(root, old);
    }
  } catch (cause) {
    if (cause instanceof NativeError) throw cause;
    rmSync(draft, { recursive: true, force: true });
    throw new CheckpointError(`${folder}: cannot be written: ${(cause as Error).message}`, { cause });
  }
  return folder;
}

/** The states in a folder, the newest first. Numbers of steps are compared within a stage, and a folder holds one stage's. */
function stateNames(root: string): string[] {
  if (!existsSync(root)) return [];
  const found = readdirSync(root).filter((name) => named.test(name));
  const step = (name: string): number => Number(named.exec(name)?.[2]);
  return found.sort((a, b) => step(b) - step(a));
}

/** Opens a saved state. */
export function readState(folder: string): TrainingState {
  const file = join(folder, factsFile);
  const facts = StateFacts.safeParse(JSON.parse(readFileSync(file, 'utf8')));
  if (!facts.success) throw new CheckpointError(`${file}: not what this version writes: ${facts.error.issues[0]?.message}`);
  return { ...facts.data, folder, tensors: openParts(join(folder, tensorsFile)) };
}

/**
 * The newest state of a stage that can be read, and those passed over with the reason. What was left half-written is removed, and the states of a
 * stage that was done when it was broken off.
 */
export function newestState(root: string, stage: string): { state?: TrainingState; unreadable: { folder: string; reason: string }[] } {
  const unreadable: { folder: string; reason: string }[] = [];
  if (existsSync(root)) {
    for (const name of readdirSync(root)) if (name.startsWith('.')) rmSync(join(root, name), { recursive: true, force: true });
  }
  for (const name of stateNames(root)) {
    if (named.exec(name)?.[1] !== stage) {
      remove(root, name);
      continue;
    }
    const folder = join(root, name);
    try {
      return { state: readState(folder), unreadable };
    } catch (cause) {
      unreadable.push({ folder, reason: (cause as Error).message });
    }
  }
  return { unreadable };
}

/** The folder of the newest state, for messages. */
export const newestStateFolder = (root: string): string | undefined => {
  const [newest] = stateNames(root);
  return newest === undefined ? undefined : join(root, newest);
};

/** Removes all states: their stage is done. */
export function removeStates(root: string): void {
  for (const name of stateNames(root)) remove(root, name);
  rmSync(root, { recursive: true, force: true });
}
