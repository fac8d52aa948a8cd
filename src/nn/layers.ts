import { enableGrad, isGradEnabled, noGrad } from '../tensor/autograd.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

type Step<Layer> = (layer: Layer, x: Tensor, index: number) => Tensor;

/** One run of layers whose insides were thrown away: what each layer was given, and what came out as a new beginning of the graph. */
interface Segment {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly again: (x: Tensor, index: number) => Tensor;
}

let recorded: Segment[] | undefined;

/**
 * Runs `x` through `layers` one after another and frees what each made except its result, so that inference holds one layer's
 * tensors at a time and training what autograd keeps. `x` itself is left alone.
 */
export function runLayers<Layer>(layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  // Frozen layers in front have no graph that would be worth throwing away.
  const first = recorded && isGradEnabled() ? (x.requiresGrad ? 0 : layers.findIndex(learns)) : -1;
  if (!recorded || first < 0) return run(layers, x, step);
  const start = run(layers.slice(0, first), x, step);
  return record(recorded, layers.slice(first), start, (layer, h, index) => step(layer, h, first + index));
}

function learns(layer: unknown): boolean {
  return layer instanceof Module && [...layer.parameters()].some(({ requiresGrad }) => requiresGrad);
}

function run<Layer>(layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  let hidden = x;
  for (const [index, layer] of layers.entries()) {
    using scope = new Scope();
    const next = scope.keep(step(layer, hidden, index));
    if (hidden !== x) hidden.free();
    hidden = next;
  }
  return hidden;
}

function record<Layer>(segments: Segment[], layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  const inputs: Tensor[] = [];
  let hidden = x;
  for (const [index, layer] of layers.entries()) {
    using scope = new Scope();
    inputs.push(hidden);
    hidden = scope.keep(noGrad(() => step(layer, hidden, index)));
  }
  const output = hidden.detach().requiresGrad_();
  segments.push({ inputs, output, again: (h, index) => step(layers[index] as Layer, h, index) });
  return output;
}

/**
 * Adds the gradients of the loss that `forward` computes to the parameters, holding the insides of one layer at a time: layers keep their
 * input alone and are computed again when their gradient's turn comes. Gives the loss. Chen et al. 2016, arXiv:1604.06174.
 */
export function backwardRecomputing(forward: () => Tensor): Tensor {
  const segments: Segment[] = [];
  recorded = segments;
  let loss: Tensor;
  try {
    loss = forward();
  } finally {
    recorded = undefined;
  }
  if (loss.requiresGrad) loss.backward();
  for (const segment of segments.reverse()) backwardSegment(segment);
  return loss;
}

function backwardSegment({ inputs, output, again }: Segment): void {
  using _scope = new Scope();
  let gradient = output.grad;
  for (const [index, given] of [...inputs.entries()].reverse()) {
    if (!gradient) return;
    using scope = new Scope();
    const input = given.detach().requiresGrad_(index > 0 || given.requiresGrad);
    enableGrad(() => again(input, index)).backward(gradient);
    gradient = input.grad && scope.keep(input.grad);
    if (index > 0) given.free();
    else if (gradient) given.backward(gradient);
  }
}
