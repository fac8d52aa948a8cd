import { ConfigError } from '../errors.ts';
import type { Module } from '../nn/module.ts';
import type { ProcessGroup } from '../tensor/distributed.ts';
import { Scope } from '../tensor/scope.ts';

/** The processes that train together, each on its own rows of every step. */
export type Team = Pick<ProcessGroup, 'rank' | 'size' | 'sum' | 'gather' | 'barrier'>;

/** One process that trains alone. */
export const solo: Team = {
  rank: 0,
  size: 1,
  sum: (values) => [...values],
  gather: (value) => [value],
  barrier: () => {},
};

/** How the ranks' gradients come together. */
export interface Exchange {
  /** In front of passes through the model, and behind them. */
  open(): void;
  close(): void;
  /** In front of a micro-batch's backward pass. */
  begin(options: { readonly last: boolean }): void;
  /** Behind the last one: leaves the sums over all ranks in the optimizer. */
  finish(): void;
  /** The norm of all gradients, from the norm of what this rank has of them. */
  norm(own: number): number;
}

/** What rank 0 says. */
export function fromFirst<Value>(team: Team, say: () => Value): Value {
  const [said] = team.gather(team.rank === 0 ? { value: say() } : {});
  return (said as { value: Value }).value;
}

/** Throws ConfigError naming a rank where something is not what it is on rank 0. */
export function checkEqual(team: Team, what: string, own: unknown): void {
  const all = team.gather(JSON.stringify(own));
  const other = all.findIndex((said) => said !== all[0]);
  if (other < 0) return;
  throw new ConfigError(`${what} of rank ${other} differs from rank 0's`, {
    hint: 'start all ranks with the same command, on the same files',
  });
}

/** Numbers that are summed at a time, for less memory. */
const piece = 1 << 24;
/** Weights are summed in millionths, more or less. */
const fixedPoint = 2 ** 20;

/** A number that differs for other weights, nearly always; sums of integers are the same on every number of threads. */
export function weightSum(model: Module): number {
  let sum = 0;
  for (const parameter of model.parameters()) {
    using _outer = new Scope();
    const flat = parameter.detach().reshape(-1);
    for (let start = 0; start < flat.numel; start += piece) {
      using _scope = new Scope();
      const values = flat.narrow(0, start, Math.min(piece, flat.numel - start));
      sum += values.cast('float32').mul(fixedPoint).cast('int32').sum().item();
    }
  }
  return sum;
}
