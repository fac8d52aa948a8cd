import { adamW_, foreachMul_, fusedAdamW } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Moved, Optimizer, type OptimizerOptions, type ParameterGroup, type UpdateRule } from './optimizer.ts';

/** Settings of AdamW that all groups share. */
export interface AdamWOptions extends OptimizerOptions {
  readonly betas: readonly [number, number];
  readonly eps: number;
}

const memoryOf = ({ memory }: Moved) => memory as { mean: Tensor; square: Tensor; compensation?: Tensor };

/**
 * AdamW, equal to PyTorch's: float32 parameters in one fused call for each group; float16 ones by their float32 masters; bfloat16 ones as upper
 * halves of float32 weights, or, without lower halves, by stochastic rounding or Kahan summation, their moments stochastically. Loshchilov and Hutter 2019, arXiv:1711.05101.
 */
export const adamWRule = ({ betas, eps }: Pick<AdamWOptions, 'betas' | 'eps'>): UpdateRule => ({
  start: (weight) => ({ mean: weight, square: weight }),
  step: (moved, { scale, ...settings }) => {
    const options = { ...settings, betas, eps };
    const plain = moved.filter(({ parameter }) => parameter.dtype === 'float32');
    for (const slot of moved) {
      if (slot.parameter.dtype === 'float32') continue;
      adamW_({ ...slot, ...memoryOf(slot) }, { ...options, step: slot.step, scale, noise: slot.noise });
    }
    if (plain.length === 0) return;
    const gradients = plain.map(({ gradient }) => gradient);
    if (scale !== 1) foreachMul_(gradients, scale);
    fusedAdamW(
      {
        parameters: plain.map(({ parameter }) => parameter),
        gradients,
        means: plain.map((slot) => memoryOf(slot).mean),
        squares: plain.map((slot) => memoryOf(slot).square),
        steps: plain.map(({ steps }) => steps),
      },
      options,
    );
  },
});

/** The optimizer of most recipes. */
export class AdamW extends Optimizer {
  constructor(groups: readonly ParameterGroup[], options: AdamWOptions) {
    super(groups, adamWRule(options), options);
  }
}
