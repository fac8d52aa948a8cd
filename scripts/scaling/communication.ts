import { dtypeBytes } from '../../src/tensor/dtype.ts';
import { type Precision, precisions } from '../../src/train/precision.ts';
import { type Cluster, collectiveSeconds, sentBytes } from './cluster.ts';
import { type Counts, type ModelCounts, type ParameterCount, sumOf } from './counts.ts';
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
/** Shards are whole blocks of so many numbers. */
const shardNumbers = 256;

/** Gradients in float32, and a number for each tensor that says how many ranks have it. */
const gradientBytes = ({ learned, tensors }: Counts): number => 4 * (learned + tensors.filter(({ learns }) => learns).length);

/** Numbers of parameters whose equal shards are filled up with zeros. */
export const paddedNumbers = (tensors: readonly ParameterCount[], ranks: number): number =>
  sumOf(tensors, ({ numbers }) => ranks * shardNumbers * Math.ceil(numbers / ranks / shardNumbers));

/** What travels with its layers, and what does not: all that is in no layer, and layers that are not run. */
const pieces = ({ towerBlocks, blocks, idleBlocks, towerRoot, root }: ModelCounts) => ({
  blocks: [...towerBlocks, ...blocks],
  rest: [...idleBlocks, towerRoot, root],
});

/** A frozen tower stays whole on every rank. */
export function shardedPieces(counts: ModelCounts): {
  readonly tower: readonly Counts[];
  readonly blocks: readonly Counts[];
  readonly rest: readonly Counts[];
} {
  const { towerBlocks, blocks, idleBlocks, towerRoot, root } = counts;
  const frozen = [...towerBlocks, ...idleBlocks, towerRoot].every(({ learned }) => learned === 0);
  return { tower: frozen ? [] : towerBlocks, blocks, rest: frozen ? [root] : [...idleBlocks, towerRoot, root] };
}

/**
 * Every rank has the whole model: gradients are summed in buckets, those of blocks while the last micro-batch's backward pass goes on in front of them. Li et
 * al. 2020, arXiv:2006.15704.
 */
export function replicatedCommunication({ counts, kinds, cluster, ranks, rate, microBatches }: Traffic): Communication {
  const { blocks, rest } = pieces(counts);
  const learning = blocks.filter(({ learned }) => learned > 0);
  const [inside, outside] = [sumOf(learning, gradientBytes), sumOf(rest, gradientBytes)];
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
    sent: { allReduce: sentBytes('all-reduce', inside + outside, ranks), allGather: 0, reduceScatter: 0 },
    seconds: Math.max(0, seconds(inside) - window) + seconds(outside),
  };
}

/**
 * Every rank has a share of each parameter: a block is gathered while the one before it computes, in the forward pass and, but for the last block, again
 * in the backward pass, and its gradients are summed and shared out while the next one computes; what belongs to no block is gathered once a step. Zhao et al.
 * 2023, arXiv:2304.11277.
 */
export function shardedCommunication({ counts, kinds, cluster, ranks, precision, rate, microBatches }: Traffic): Communication {
  const bytes = dtypeBytes(precisions[precision].compute);
  const { tower, blocks, rest } = shardedPieces(counts);
  const held = ({ tensors }: Pick<Counts, 'tensors'>): number => paddedNumbers(tensors, ranks);
  const learned = ({ tensors }: Pick<Counts, 'tensors'>): number =>
    paddedNumbers(
      tensors.filter(({ learns }) => learns),
      ranks,
    );
  const gather = (piece: Pick<Counts, 'tensors'>): number => collectiveSeconds(cluster, 'all-gather', bytes * held(piece), ranks);
  const scatter = (piece: Pick<Counts, 'tensors'>): number =>
    learned(piece) === 0 ? 0 : collectiveSeconds(cluster, 'reduce-scatter', 4 * learned(piece), ranks);
  const all = [...tower, ...blocks];
  const reached = all.filter(isReached);
  // The last block of the forward pass is the first of the backward pass.
  const again = reached.filter((block) => block !== all.at(-1));
  const regather = (block: Counts): number => (again.includes(block) ? gather(block) : 0);
  const root = { tensors: rest.flatMap(({ tensors }) => tensors) };
  const [first, lowest] = [all[0], reached[0]];
  // Nothing is computed in front of the first block of a pass, and behind the step's last gradients.
  let seconds = gather(root) + scatter(root) + (lowest ? scatter(lowest) : 0);
  seconds += microBatches.length * (first ? gather(first) : 0);
  for (const [stack, own] of [
    ['tower', tower],
    ['language', blocks],
  ] as const) {
    const backs = own.filter(isReached);
    const each = (pass: 'forward' | 'backward', among: number): number =>
      meanOf(kinds, (row) => {
        const { products, attention } = blockWork(counts, row)[stack];
        const work = (passes: typeof products): number => (pass === 'forward' ? passes.forward : passes.recompute + passes.backward);
        return work(products) + work(attention);
      }) / Math.max(1, among);
    const [forward, backward] = [each('forward', own.length), each('backward', backs.length)];
    for (const rows of microBatches) {
      seconds += sumOf(own, (block) => Math.max(0, gather(block) - (rows * forward) / rate));
      seconds += sumOf(backs, (block) => Math.max(0, regather(block) + scatter(block) - (rows * backward) / rate));
    }
  }
  const gathered = bytes * (microBatches.length * (sumOf(all, held) + sumOf(again, held)) + held(root));
  const scattered = 4 * microBatches.length * (sumOf(reached, learned) + learned(root));
  return {
    sent: {
      allReduce: 0,
      allGather: sentBytes('all-gather', gathered, ranks),
      reduceScatter: sentBytes('reduce-scatter', scattered, ranks),
    },
    seconds,
  };
}
