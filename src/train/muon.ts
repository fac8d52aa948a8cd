import { addmm } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type AdamWOptions, adamWRule } from './adamw.ts';
import { type Moved, moveWeight, Optimizer, type ParameterGroup, type StepSettings, type UpdateRule } from './optimizer.ts';

// Of the quintic iteration, chosen to raise small singular values fast: K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
const [a, b, c] = [3.4445, -4.775, 2.0315];
const iterations = 5;
const smallestNorm = 1e-7;

/** The matrix with singular values near 1 that has the singular vectors of `x` [M, N], in bfloat16. */
function orthogonalized(x: Tensor): Tensor {
  const tall = x.size(0) > x.size(1);
  const narrow = x.cast('bfloat16');
  const wide = tall ? narrow.t() : narrow;
  let y = wide.div(wide.norm().clamp({ min: smallestNorm }));
  for (let i = 0; i < iterations; i++) {
    const gram = y.matmul(y.t());
    y = addmm(y, addmm(gram, gram, gram, { beta: b, alpha: c }), y, { beta: a });
  }
  return tall ? y.t() : y;
}

/** Settings of Muon, and of AdamW for what Muon is not for. */
export interface MuonOptions extends AdamWOptions {
  /** 0.95 unless said otherwise. */
  readonly momentum?: number | undefined;
}

function move(one: Moved, momentum: number, { learningRate, weightDecay, scale }: StepSettings): void {
  moveWeight(one, scale, (weight, gradient) => {
    using _scope = new Scope();
    const { mean } = one.memory as { mean: Tensor };
    mean.lerp_(gradient, 1 - momentum);
    const update = orthogonalized(gradient.lerp(mean, momentum));
    weight.mul_(1 - learningRate * weightDecay);
    // The size of AdamW's steps, so that its learning rates do: Liu et al. 2025, arXiv:2502.16982.
    weight.add_(update.cast('float32'), { alpha: -0.2 * Math.sqrt(Math.max(...weight.shape)) * learningRate });
  });
}

const muonRule = ({ momentum = 0.95, ...options }: MuonOptions): UpdateRule => {
  const adamW = adamWRule(options);
  return {
    start: (weight, group, numel) =>
      group.hidden ? { mean: { shape: weight.shape, dtype: 'float32' } } : adamW.start(weight, group, numel),
    step: (moved, settings, group) => {
      if (!group.hidden) adamW.step(moved, settings, group);
      else for (const one of moved) move(one, momentum, settings);
    },
  };
};

/**
 * Muon with Nesterov momentum for the weights of linear layers inside the model, equal to PyTorch's with `match_rms_adamw`; AdamW for the rest:
 * embeddings, the head, norms, biases, convolutions. Both take AdamW's learning rates.
 */
export class Muon extends Optimizer {
  constructor(groups: readonly ParameterGroup[], options: MuonOptions) {
    super(groups, muonRule(options), options);
  }
}
