import { vectorNorm } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { moveWeight, Optimizer, type OptimizerOptions, type ParameterGroup, type StepSettings, type UpdateRule } from './optimizer.ts';

const [smallestVariance, smallestWeight, decayPower] = [2 ** -23, 1e-3, -0.8];

interface Factors {
  readonly rows?: Tensor;
  readonly columns?: Tensor;
  readonly square?: Tensor;
}

/** The mean of the squares along a dimension, which stays with size 1. */
const meanSquare = (x: Tensor, dim: number): Tensor => vectorNorm(x, dim, { keepDim: true }).square().div(x.size(dim));

/** The root of the mean of the squares. */
const rootMeanSquare = (x: Tensor): number => x.norm().item() / Math.sqrt(x.numel);

/** An estimate of each gradient's square out of what is remembered, after it has seen `gradient`. `blend` is how much that counts. */
function variance({ rows, columns, square }: Factors, gradient: Tensor, blend: number): Tensor {
  if (!rows || !columns) return (square as Tensor).lerp_(gradient.square(), blend).clone();
  rows.lerp_(meanSquare(gradient, -1), blend);
  columns.lerp_(meanSquare(gradient, -2), blend);
  return rows.matmul(columns).div(rows.mean(-2, { keepDim: true }).clamp({ min: smallestVariance }));
}

function change(weight: Tensor, gradient: Tensor, { memory, step }: { memory: Factors; step: number }, settings: StepSettings): void {
  using _scope = new Scope();
  const { learningRate, weightDecay } = settings;
  const alpha = Math.max(smallestWeight, rootMeanSquare(weight)) * Math.min(learningRate, 1 / Math.sqrt(step));
  if (weightDecay !== 0) weight.mul_(1 - learningRate * weightDecay);
  const estimate = variance(memory, gradient, step ** decayPower);
  const update = estimate
    .clamp({ min: smallestVariance ** 2 })
    .rsqrt()
    .mul(gradient);
  weight.add_(update, { alpha: -alpha / Math.max(1, rootMeanSquare(update)) });
}

/** Adafactor, equal to PyTorch's with its defaults. Shazeer and Stern 2018, arXiv:1804.04235. */
const adafactorRule: UpdateRule = {
  start: ({ shape }) => {
    const dtype = 'float32' as const;
    if (shape.length < 2) return { square: { shape, dtype } };
    const [first, last] = [shape.slice(0, -2), shape.slice(-2) as [number, number]];
    return { rows: { shape: [...first, last[0], 1], dtype }, columns: { shape: [...first, 1, last[1]], dtype } };
  },
  step: (moved, settings) => {
    for (const one of moved) moveWeight(one, settings.scale, (weight, gradient) => change(weight, gradient, one, settings));
  },
};

/**
 * Adafactor: the second moment of a matrix is kept as a row and a column, and there is no first. Steps are relative to the size of the weights, so
 * learning rates are those of Adafactor, not of AdamW: 1e-2 is usual.
 */
export class Adafactor extends Optimizer {
  constructor(groups: readonly ParameterGroup[], options: OptimizerOptions = {}) {
    super(groups, adafactorRule, options);
  }
}
