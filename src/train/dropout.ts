import { Random } from '../data/random.ts';
import type { DropoutSeed } from '../nn/lora.ts';
import type { StepInput } from './step.ts';

/** Where in training a step is. */
export interface StepPlace {
  readonly seed: number;
  readonly stage: string;
  readonly step: number;
  readonly rank?: number;
}

/**
 * The input of a step with a seed of dropout for each micro-batch, which follows from the place alone: a run that is resumed drops what an unbroken
 * one does. Behind the step nothing is dropped.
 */
export function withDropout(input: StepInput, dropout: DropoutSeed, { seed, stage, step, rank = 0 }: StepPlace): StepInput {
  const stream = [...stage].reduce((sum, letter) => (Math.imul(sum, 31) + (letter.codePointAt(0) ?? 0)) >>> 0, 1);
  return {
    ...input,
    *batches() {
      const random = new Random(seed + stream + Math.imul(rank, 0x9e3779b9), step);
      try {
        for (const batch of input.batches()) {
          dropout.value = random.next();
          yield batch;
        }
      } finally {
        dropout.value = undefined;
      }
    },
  };
}
