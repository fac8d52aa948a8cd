import type { LanguageName, TowerName } from '../../bench/full-size/models.ts';
import { gpus } from './cluster.ts';
import { tokensOf } from './flops.ts';
import { predictStep } from './step.ts';
import { studied } from './studies.ts';

/** Hours that a training is known to have taken on GPUs of one node. */
export interface Anchor {
  readonly tower: TowerName;
  readonly language: LanguageName;
  readonly gpus: number;
  readonly hours: { readonly align: number; readonly instruct: number };
}

/**
 * TinyLLaVA Factory's on A100-40G, as its maintainers gave them (github.com/TinyLLaVA/TinyLLaVA_Factory issue 67): FlashAttention, ZeRO-3, checkpointed activations,
 * batches grouped by length, and a head over all positions (its scripts/train/pretrain.sh and finetune.sh).
 */
export const anchors: readonly Anchor[] = [
  { tower: 'SigLIP-so400m/14-384', language: 'TinyLlama-1.1B', gpus: 4, hours: { align: 2.5, instruct: 6.5 } },
  { tower: 'SigLIP-so400m/14-384', language: 'StableLM-2-1.6B', gpus: 4, hours: { align: 2.6, instruct: 7.5 } },
  { tower: 'SigLIP-so400m/14-384', language: 'Phi-2', gpus: 4, hours: { align: 5, instruct: 14 } },
  { tower: 'CLIP-L/14-336', language: 'Phi-2', gpus: 4, hours: { align: 4, instruct: 13 } },
];

/** Hours that the model predicts for a stage of an anchor at a utilization. */
export function anchorHours({ tower, language, gpus: ranks }: Anchor, stage: 'align' | 'instruct', utilization: number): number {
  const { counts, data } = studied(tower, language, stage);
  const kinds = data.kinds.map((kind) => ({ ...kind, supervised: tokensOf(counts, kind) }));
  const [batchSize, microBatch] = stage === 'align' ? [256, 32] : [128, 8];
  const cluster = { gpu: gpus['a100-40g'], gpusPerNode: ranks, cards: 1, cardBits: 200e9 };
  const run = { counts, kinds, batchSize, microBatch, cluster, ranks, strategy: 'sharded', precision: 'float16', utilization } as const;
  const { total, waiting } = predictStep(run);
  // Rows of like length come together.
  return (data.rows / batchSize / 3600) * (total - waiting);
}

/** The utilization at which a stage of an anchor takes as long as it did. */
export function utilizationOf(anchor: Anchor, stage: 'align' | 'instruct'): number {
  let [low, high] = [0.01, 1];
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (anchorHours(anchor, stage, middle) > anchor.hours[stage]) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** The one fitted number: that of the longest, the instructions for Phi-2 with SigLIP. */
export function fittedUtilization(): number {
  const longest = anchors.reduce((most, other) => (other.hours.instruct > most.hours.instruct ? other : most));
  fitted ??= utilizationOf(longest, 'instruct');
  return fitted;
}

let fitted: number | undefined;
