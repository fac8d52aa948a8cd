import { dtypeBytes } from '../../src/tensor/dtype.ts';
import { precisions } from '../../src/train/precision.ts';
import { collectiveSeconds } from './cluster.ts';
import { type Communication, replicatedCommunication, type Sent, shardedCommunication, type Traffic } from './communication.ts';
import { type Counts, type ModelCounts, sumOf } from './counts.ts';
import { rowWork, workOf } from './flops.ts';
import { meanOf, slowest, slowestShared } from './rows.ts';

/** Whether every rank has the whole model, or a share of each parameter. */
export type Strategy = 'replicated' | 'sharded';

/** One step of a stage on so many GPUs. */
export interface Run extends Omit<Traffic, 'rate' | 'microBatches'> {
  readonly strategy: Strategy;
  /** Rows of a step over all ranks, and the most that go through a rank's model at once. */
  readonly batchSize: number;
  readonly microBatch: number;
  /** The share of the peak at which products and attention run, recomputed ones among them. */
  readonly utilization: number;
  /** Whether the rows of a step, or of all ranks' micro-batches, are shared out by their length; else as they come. */
  readonly shared?: boolean;
}

/** Where the seconds of a step go. */
export interface StepTime {
  /** The work, shared out evenly. */
  readonly compute: number;
  /** For the rank with the longest rows, and for those that have a row where others have none. */
  readonly waiting: number;
  /** Communication behind which there is nothing to compute. */
  readonly communication: number;
  readonly optimizer: number;
  readonly total: number;
  /** The share of the step that the even work is. */
  readonly efficiency: number;
  readonly sent: Sent;
}

/** AdamW reads the gradient, reads and writes master and two moments, and writes the weight that is computed with. */
const optimizerBytes = (compute: number): number => 7 * 4 + compute;
/** What a pass over a GPU's memory reaches of its bandwidth. */
const memoryShare = 0.8;
/** What the ranks tell each other of a step: how many bytes, in how many collectives. */
const [toldBytes, told] = [64, 4];

const piecesOf = ({ towerBlocks, idleBlocks, blocks, towerRoot, root }: ModelCounts): Counts[] => [
  ...towerBlocks,
  ...idleBlocks,
  ...blocks,
  towerRoot,
  root,
];

/** Numbers that learn. */
export const learnedOf = (counts: ModelCounts): number => sumOf(piecesOf(counts), ({ learned }) => learned);

/** Numbers that there are. */
export const parametersOf = (counts: ModelCounts): number => sumOf(piecesOf(counts), ({ parameters }) => parameters);

/** Rows of each micro-batch of the rank that has most. */
export function microBatchRows({ batchSize, ranks, microBatch }: Pick<Run, 'batchSize' | 'ranks' | 'microBatch'>): number[] {
  const rows = Math.ceil(batchSize / ranks);
  return Array.from({ length: Math.ceil(rows / microBatch) }, (_, i) => Math.min(microBatch, rows - i * microBatch));
}

/** Predicts a step. */
export function predictStep(run: Run): StepTime {
  const { counts, kinds, batchSize, cluster, ranks, strategy, precision, utilization } = run;
  const rate = cluster.gpu.peak * utilization;
  const microBatches = microBatchRows(run);
  const costs = kinds.map((kind) => ({ share: kind.share, cost: workOf(rowWork(counts, kind)) }));
  const seconds = meanOf(costs, ({ cost }) => cost) / rate;
  const compute = (batchSize * seconds) / ranks;
  // Sharded ranks wait for each other at every block, so in each micro-batch for its slowest; replicas once a step.
  const together = strategy === 'sharded' ? microBatches : [sumOf(microBatches, (rows) => rows)];
  const longest = run.shared ? slowestShared : slowest;
  const factors = new Map([...new Set(together)].map((rows) => [rows, longest(costs, { rows, ranks: Math.min(ranks, batchSize) })]));
  const working = sumOf(together, (rows) => rows * seconds * (factors.get(rows) ?? 1));
  const traffic = { ...run, rate, microBatches };
  const { sent, seconds: exposed }: Communication =
    strategy === 'sharded' ? shardedCommunication(traffic) : replicatedCommunication(traffic);
  const communication = exposed + told * collectiveSeconds(cluster, 'all-reduce', toldBytes, ranks);
  const own = learnedOf(counts) / (strategy === 'sharded' ? ranks : 1);
  const optimizer = (optimizerBytes(dtypeBytes(precisions[precision].compute)) * own) / (memoryShare * cluster.gpu.bandwidth);
  const total = working + communication + optimizer;
  return { compute, waiting: working - compute, communication, optimizer, total, efficiency: compute / total, sent };
}
