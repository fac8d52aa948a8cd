import { NativeError } from '../errors.ts';
import { version } from '../version.ts';
import { tensor, zeros } from './create.ts';
import { type FlightHandle, type GroupHandle, native } from './native.ts';
import { Scope } from './scope.ts';
import type { Tensor } from './tensor.ts';

/** Where a process stands in a job, and where its ranks meet. */
export interface Place {
  readonly rank: number;
  readonly size: number;
  /** Of the rendezvous. */
  readonly host: string;
  readonly port: number;
  /** Whether this process serves the rendezvous: rank 0 unless the launcher does. */
  readonly serves?: boolean;
  /** Which start of the job it is, where a rendezvous outlasts one: 0 unless said otherwise. */
  readonly attempt?: number;
}

/** How long to wait for others, in seconds. */
export interface Patience {
  /** For all ranks to come, 300. */
  readonly meeting?: number;
  /** For a sign of life, after which a rank is lost: 20. */
  readonly silence?: number;
}

/** Bytes that this rank sent in collectives, as rings do it: those of its own tensors times (N - 1) / N, twice for sums. */
export interface Traffic {
  readonly allReduce: number;
  readonly allGather: number;
  readonly reduceScatter: number;
  readonly broadcast: number;
}

/** A rank is gone, or cannot be reached. */
export class LostRankError extends NativeError {}

/** A collective on its way; its tensors are not to be touched until it has landed. */
export class Flight {
  readonly #handle: FlightHandle;

  constructor(handle: FlightHandle) {
    this.#handle = handle;
  }

  /** Waits until it is done. Throws LostRankError naming the rank that is gone. */
  land(): void {
    try {
      native.land(this.#handle);
    } catch (cause) {
      throw new LostRankError((cause as Error).message.replace(/^land: /, ''), {
        hint: 'see what that process says; go on with --resume',
        cause,
      });
    }
  }
}

/**
 * Processes that train together, through c10d of PyTorch: Gloo, and NCCL between GPUs. Every rank calls the same collectives in the same order. A rank that dies or fails
 * ends every wait of the others with an error that names it.
 */
export class ProcessGroup {
  readonly rank: number;
  readonly size: number;
  readonly #handle: GroupHandle;
  #traffic: Traffic = { allReduce: 0, allGather: 0, reduceScatter: 0, broadcast: 0 };

  /** Joins the others and waits until all are there. Throws NativeError naming the ranks that have not come, or are of another job. */
  constructor({ rank, size, host, port, serves = rank === 0, attempt = 0 }: Place, { meeting = 300, silence = 20 }: Patience = {}) {
    this.rank = rank;
    this.size = size;
    const [patience, quiet] = [Math.round(1000 * meeting), Math.round(1000 * silence)];
    const terms = `${size} processes of tinyllava ${version}`;
    try {
      this.#handle = native.group(rank, size, host, port, serves, patience, quiet, `attempt ${attempt}`, terms);
    } catch (cause) {
      const hint =
        'start all ranks with the same MASTER_ADDR and MASTER_PORT, an address of rank 0 that all reach and a port that is free there';
      throw new NativeError(`rank ${rank} cannot join at ${host}:${port}: ${(cause as Error).message.replace(/^group: /, '')}`, {
        hint,
        cause,
      });
    }
  }

  /** What was sent so far. */
  get traffic(): Traffic {
    return this.#traffic;
  }

  /** Sums a tensor over all ranks, in place; the bits are the same on all. */
  allReduce(values: Tensor): Flight {
    this.#count('allReduce', 2 * values.bytes);
    return new Flight(native.allReduce(this.#handle, values.handle));
  }

  /** Makes a tensor what it is on one rank, in place. */
  broadcast(values: Tensor, { from }: { from: number }): Flight {
    this.#count('broadcast', values.bytes);
    return new Flight(native.broadcast(this.#handle, values.handle, from));
  }

  /** What all ranks have, `values` [n], one behind the other into `into` [N n]. */
  allGather(into: Tensor, values: Tensor): Flight {
    this.#count('allGather', into.bytes);
    return new Flight(native.allGather(this.#handle, into.handle, values.handle));
  }

  /** Sums `values` [N n] over all ranks; part r of them goes into `into` [n] of rank r. */
  reduceScatter(into: Tensor, values: Tensor): Flight {
    this.#count('reduceScatter', values.bytes);
    return new Flight(native.reduceScatter(this.#handle, into.handle, values.handle));
  }

  /** Sums numbers over all ranks. */
  sum(values: readonly number[]): number[] {
    using _scope = new Scope();
    const sums = tensor(Float64Array.from(values));
    this.allReduce(sums).land();
    return [...(sums.toArray() as Float64Array)];
  }

  /** What every rank says, by rank; anything that JSON can hold. */
  gather<Value>(value: Value): Value[] {
    using _scope = new Scope();
    const said = new TextEncoder().encode(JSON.stringify(value));
    const lengths = this.#gatherNumbers(said.length);
    const longest = Math.max(...lengths);
    const padded = new Uint8Array(longest);
    padded.set(said);
    const all = zeros([this.size * longest], { dtype: 'uint8' });
    this.allGather(all, tensor(padded)).land();
    const heard = all.toArray() as Uint8Array;
    return lengths.map(
      (length, rank) => JSON.parse(new TextDecoder().decode(heard.subarray(rank * longest, rank * longest + length))) as Value,
    );
  }

  /** Waits until every rank is here. */
  barrier(): void {
    this.sum([0]);
  }

  /** Tells the others why this rank leaves them, which ends their waits. */
  fail(reason: string): void {
    native.failGroup(this.#handle, reason);
  }

  /** Leaves the group, when all are done; a rank that failed says so by `fail` and goes. */
  close(): void {
    this.barrier();
    native.closeGroup(this.#handle);
  }

  #gatherNumbers(value: number): number[] {
    const all = zeros([this.size], { dtype: 'float64' });
    this.allGather(all, tensor(Float64Array.of(value))).land();
    return [...(all.toArray() as Float64Array)];
  }

  #count(kind: keyof Traffic, bytes: number): void {
    this.#traffic = { ...this.#traffic, [kind]: this.#traffic[kind] + (bytes * (this.size - 1)) / this.size };
  }
}
