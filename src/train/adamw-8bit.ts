import { adamW8bit_ } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type AdamWOptions, adamWRule } from './adamw.ts';
import { type Moved, Optimizer, type ParameterGroup, type UpdateRule } from './optimizer.ts';

/** Elements that share a scale, and the fewest that a parameter must have for its moments to be kept in eight bits. */
const [block, fewest] = [256, 4096];

type Memory = Readonly<Record<'mean' | 'meanScale' | 'square' | 'squareScale', Tensor>> & { readonly compensation?: Tensor };
const isSmall = ({ memory }: Moved): boolean => !('meanScale' in memory);

const adamW8bitRule = (options: Pick<AdamWOptions, 'betas' | 'eps'>): UpdateRule => {
  const adamW = adamWRule(options);
  return {
    start: (weight, group, numel) => {
      const { shape } = weight;
      if (numel < fewest) return adamW.start(weight, group, numel);
      const scale = { shape: [Math.ceil(weight.numel / block)], dtype: 'float32' } as const;
      const codes = { shape, dtype: 'uint8' } as const;
      return { mean: codes, meanScale: scale, square: codes, squareScale: scale };
    },
    step: (moved, settings, group) => {
      const small = moved.filter(isSmall);
      if (small.length > 0) adamW.step(small, settings, group);
      for (const slot of moved) {
        if (isSmall(slot)) continue;
        adamW8bit_({ ...slot, ...(slot.memory as Memory) }, { ...options, ...settings, step: slot.step, noise: slot.noise });
      }
    },
  };
};

/**
 * AdamW with moments in eight bits, a byte each and a scale for 256 of them; parameters below 4096 numbers, whose moments take no memory to
 * speak of, are moved by AdamW itself. Any run of a parameter's elements that begins at a multiple of 256 can be moved for itself. Dettmers et
 * al. 2022, arXiv:2110.02861.
 */
export class AdamW8bit extends Optimizer {
  constructor(groups: readonly ParameterGroup[], options: AdamWOptions) {
    super(groups, adamW8bitRule(options), options);
  }
}
