import { dtypeBytes } from '../../src/tensor/dtype.ts';
import { type Precision, precisions } from '../../src/train/precision.ts';
import { type Cluster, collectiveSeconds, sentBytes } from './cluster.ts';
import { type Counts, type ModelCounts, sumOf } from './counts.ts';
import { blockWork, isReached } from './flops.ts';
import { type Kind, meanOf } from './rows.ts';

/** What travels in a step, and how fast what it may hide behind is computed. */
export interface Traffic {
  readonly counts: ModelCounts;
  readonly kinds: readonly Kind[];
  readonly cluster: Cluster;
  readonly ranks: number;
  readonly precision: Precision;
  /** Flops a second. */
  readonly rate: number;
  /** Rows of each of a rank's micro-batches. */
  readonly microBatches: readonly number[];
}

/** Bytes that a rank sends in a step. The cards of a node send as much together, where there are several nodes. */
export interface Sent {
  readonly allReduce: number;
  readonly allGather: number;
  readonly reduceScatter: number;
}

/** What a step sends, and the seconds of it in which there is nothing to compute. */
export interface Communication {
  readonly sent: Sent;
  readonly seconds: number;
}

const bucketBytes = 25 * 2 ** 20;

/** Gradients in float32, and a number for each tensor that says how many ranks have it. */
const gradientBytes = ({ learned, learnedTensors }: Counts): number => 4 * (learned + learnedTensors);

const blocksOf = ({ towerBlocks, blocks }: ModelCounts): Counts[] => [...towerBlocks, ...blocks];

/**
 * Every rank has the whole model: gradients are summed in buckets, those of blocks while the last micro-batch's backward pass goes on in front of them. Li et
 * al. 2020, arXiv:2006.15704.
 */
export function replicatedCommunication({ counts, kinds, cluster, ranks, rate, microBatches }: Traffic): Communication {
  const learning = blocksOf(counts).filter(({ learned }) => learned > 0);
  const [inside, rest] = [sumOf(learning, gradientBytes), gradientBytes(counts.root)];
  const seconds = (bytes: number): number => {
    const buckets = Math.ceil(bytes / bucketBytes);
    return buckets === 0 ? 0 : buckets * collectiveSeconds(cluster, 'all-reduce', bytes / buckets, ranks);
  };
  const backward = meanOf(kinds, (row) => {
    const { tower, language } = blockWork(counts, row);
    return sumOf([tower.products, tower.attention, language.products, language.attention], (pass) => pass.recompute + pass.backward);
  });
  // While the first block computes its gradients nothing is under way yet.
  const window = (((microBatches.at(-1) ?? 0) * backward) / rate) * (1 - 1 / Math.max(1, learning.length));
  return {
    sent: { allReduce: sentBytes('all-reduce', inside + rest, ranks), allGather: 0, reduceScatter: 0 },
    seconds: Math.max(0, seconds(inside) - window) + seconds(rest),
  };
}

/**
 * Every rank has a share of each parameter: a block is gathered while the one before it computes, in the forward pass and again in the backward pass, and its
 * gradients are summed and shared out while the next one computes; what belongs to no block is gathered once a step. Zhao et al. 2023, arXiv:2304.11277.
 */
export function shardedCommunication({ counts, kinds, cluster, ranks, precision, rate, microBatches }: Traffic): Communication {
  const bytes = dtypeBytes(precisions[precision].compute);
  const gather = ({ parameters }: Counts): number => collectiveSeconds(cluster, 'all-gather', bytes * parameters, ranks);
  const scatter = ({ learned }: Counts): number => (learned === 0 ? 0 : collectiveSeconds(cluster, 'reduce-scatter', 4 * learned, ranks));
  const stacks = [
    { blocks: counts.towerBlocks, stack: 'tower' },
    { blocks: counts.blocks, stack: 'language' },
  ] as const;
  const [first] = blocksOf(counts);
  const reached = blocksOf(counts).filter(isReached);
  // In front of the first block, and behind the last gradients, nothing is computed.
  let seconds =
    gather(counts.root) +
    scatter(counts.root) +
    microBatches.length * ((first ? gather(first) : 0) + (reached[0] ? scatter(reached[0]) : 0));
  for (const { blocks, stack } of stacks) {
    const backs = blocks.filter(isReached);
    const each = (pass: 'forward' | 'backward', among: number): number =>
      meanOf(kinds, (row) => {
        const { products, attention } = blockWork(counts, row)[stack];
        const own = (passes: typeof products): number => (pass === 'forward' ? passes.forward : passes.recompute + passes.backward);
        return own(products) + own(attention);
      }) / Math.max(1, among);
    const [forward, backward] = [each('forward', blocks.length), each('backward', backs.length)];
    for (const rows of microBatches) {
      seconds += sumOf(blocks, (block) => Math.max(0, gather(block) - (rows * forward) / rate));
      seconds += sumOf(backs, (block) => Math.max(0, gather(block) + scatter(block) - (rows * backward) / rate));
    }
  }
  const parameters = ({ parameters: numbers }: Counts): number => numbers;
  const gathered =
    bytes * (microBatches.length * (sumOf(blocksOf(counts), parameters) + sumOf(reached, parameters)) + counts.root.parameters);
  const scattered = 4 * (microBatches.length * sumOf(reached, ({ learned }) => learned) + counts.root.learned);
  return {
    sent: {
      allReduce: 0,
      allGather: sentBytes('all-gather', gathered, ranks),
      reduceScatter: sentBytes('reduce-scatter', scattered, ranks),
    },
    seconds,
  };
}
