import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { dtypeBytes } from '../../src/tensor/dtype.ts';
import { estimateMemory } from '../../src/train/memory.ts';
import { besideBytes, type Precision, precisions } from '../../src/train/precision.ts';
import type { Stage } from '../../src/train/recipe.ts';
import { paddedNumbers, shardedPieces } from './communication.ts';
import { type ModelCounts, sumOf } from './counts.ts';
import { tokensOf } from './flops.ts';
import type { Kind } from './rows.ts';
import { learnedOf, parametersOf, type Strategy } from './step.ts';

/** Bytes that a rank needs. */
export interface RankMemory {
  /** What it keeps of the weights that are computed with. */
  readonly weights: number;
  readonly gradients: number;
  /** What makes float32 weights of those that learn, and what the optimizer remembers. */
  readonly beside: number;
  readonly optimizer: number;
  /** The block at hand and the next one, what belongs to no block, and gradients: those at hand, and in float32 those on their way. 0 for replicas. */
  readonly gathered: number;
  /** Inputs of blocks, the insides of one, logits of a chunk: of the longest rows, with recomputation. */
  readonly activations: number;
  /** Of CUDA, NCCL and libraries. */
  readonly reserved: number;
  readonly total: number;
}

const reserved = 2.5e9;
/** Blocks whose gradients are on their way to their ranks. */
const travelling = 3;

/** Predicts the memory of a rank for a micro-batch of the longest rows; blocks are recomputed. The optimizer is AdamW or what the stage names. */
export function predictMemory(
  { model, stage, counts, kinds }: { model: TinyLlava; stage: Stage; counts: ModelCounts; kinds: readonly Kind[] },
  { strategy, ranks, microBatch, precision }: { strategy: Strategy; ranks: number; microBatch: number; precision: Precision },
): RankMemory {
  const bytes = dtypeBytes(precisions[precision].compute);
  const rowTokens = Math.max(...kinds.map((row) => tokensOf(counts, row)));
  const [images, supervised] = [({ views }: Kind) => views, ({ supervised }: Kind) => supervised].map(
    (what) => microBatch * Math.max(...kinds.map(what)),
  ) as [number, number];
  const alone = estimateMemory(model, stage, { tokens: microBatch * rowTokens, rowTokens, supervised, images, recompute: true, precision });
  const [all, learned] = [parametersOf(counts), learnedOf(counts)];
  const share = strategy === 'sharded' ? ranks : 1;
  const { tower, blocks, rest } = shardedPieces(counts);
  const spread = sumOf([...tower, ...blocks, ...rest], ({ tensors }) => paddedNumbers(tensors, ranks));
  const whole = all - sumOf([...tower, ...blocks, ...rest], ({ parameters }) => parameters);
  const largest = Math.max(...[...tower, ...blocks].map(({ parameters }) => parameters));
  const mostLearned = Math.max(0, ...[...tower, ...blocks].map((block) => block.learned));
  const restLearned = sumOf(rest, ({ learned: own }) => own);
  const parts = {
    weights: strategy === 'sharded' ? bytes * (spread / ranks + whole) : bytes * all,
    // They are summed in float32, over micro-batches and over ranks.
    gradients: (4 * learned) / share,
    beside: (besideBytes(precision) * learned) / share,
    optimizer: alone.optimizer / share,
    gathered:
      strategy === 'sharded'
        ? bytes * (2 * largest + sumOf(rest, ({ parameters }) => parameters)) +
          (bytes + 4 * travelling) * mostLearned +
          (bytes + 4) * restLearned
        : 0,
    activations: alone.activations,
    reserved,
  };
  return { ...parts, total: sumOf(Object.values(parts), (part) => part) };
}
