import { enableGrad, isGradEnabled, noGrad } from '../tensor/autograd.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Module } from './module.ts';

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
export function runLayers<Layer extends Module>(layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  if (recorded && isGradEnabled() && (x.requiresGrad || learns(layers))) return record(recorded, layers, x, step);
  let hidden = x;
  for (const [index, layer] of layers.entries()) {
    using scope = new Scope();
    const next = scope.keep(step(layer, hidden, index));
    if (hidden !== x) hidden.free();
    hidden = next;
  }
  return hidden;
}

function learns(layers: readonly Module[]): boolean {
  for (const layer of layers) for (const parameter of layer.parameters()) if (parameter.requiresGrad) return true;
  return false;
}

function record<Layer extends Module>(segments: Segment[], layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  const inputs = [x];
  const last = noGrad(() => {
    let hidden = x;
    for (const [index, layer] of layers.entries()) {
      using scope = new Scope();
      hidden = scope.keep(step(layer, hidden, index));
      if (index < layers.length - 1) inputs.push(hidden);
    }
    return hidden;
  });
  const output = last.detach().requiresGrad_();
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
  loss.backward();
  for (const segment of segments.reverse()) backwardSegment(segment);
  return loss;
}

function backwardSegment({ inputs, output, again }: Segment): void {
  using _scope = new Scope();
  let gradient = output.grad;
  for (const [index, given] of [...inputs.entries()].reverse()) {
    if (!gradient) return;
    using scope = new Scope();
    const isLearning = index > 0 || given.requiresGrad;
    const input = given.detach().requiresGrad_(isLearning);
    enableGrad(() => again(input, index)).backward(gradient);
    if (isLearning) gradient = input.grad && scope.keep(input.grad);
    if (index > 0) given.free();
    else if (given.requiresGrad && gradient) given.backward(gradient);
  }
}
