import { enableGrad, isGradEnabled, noGrad } from '../tensor/autograd.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

type Step<Layer> = (layer: Layer, x: Tensor, index: number) => Tensor;
type Pass = 'forward' | 'backward';

/** What is told when a layer's turn comes, and when it is over: behind its backward pass the gradients of its parameters are whole. */
export interface LayerWatch {
  enter?(layer: Module, pass: Pass): void;
  leave?(layer: Module, pass: Pass): void;
}

const watches = new WeakMap<object, LayerWatch>();

/** Has a layer watched wherever it runs, or no longer. */
export function watchLayer(layer: Module, watch: LayerWatch | undefined): void {
  if (watch) watches.set(layer, watch);
  else watches.delete(layer);
}

let seen: Set<Module> | undefined;

/** The layers that `body` runs, in order. */
export function layersRunBy(body: () => void): Module[] {
  seen = new Set();
  try {
    body();
    return [...seen];
  } finally {
    seen = undefined;
  }
}

function watched<Result>(layer: unknown, pass: Pass, body: () => Result): Result {
  if (!(layer instanceof Module)) return body();
  seen?.add(layer);
  const watch = watches.get(layer);
  watch?.enter?.(layer, pass);
  const result = body();
  watch?.leave?.(layer, pass);
  return result;
}

/** One run of layers that are gone through backward one by one: what each was given and, unless it is computed again, what it gave. */
interface Segment {
  readonly layers: readonly unknown[];
  readonly x: Tensor;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** A new beginning of the graph. */
  readonly output: Tensor;
  readonly again: (x: Tensor, index: number) => Tensor;
}

interface Recording {
  readonly segments: Segment[];
  readonly recompute: boolean;
}

let recording: Recording | undefined;

/**
 * Runs `x` through `layers` one after another and frees what each made except its result, so that inference holds one layer's
 * tensors at a time and training what autograd keeps. `x` itself is left alone.
 */
export function runLayers<Layer>(layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  // Frozen layers in front have no graph that would be worth going back through.
  const first = recording && isGradEnabled() ? (x.requiresGrad ? 0 : layers.findIndex(learns)) : -1;
  if (!recording || first < 0) return run(layers, x, step);
  const start = run(layers.slice(0, first), x, step);
  return record(recording, layers.slice(first), start, (layer, h, index) => step(layer, h, first + index));
}

function learns(layer: unknown): boolean {
  return layer instanceof Module && [...layer.parameters()].some(({ requiresGrad }) => requiresGrad);
}

function run<Layer>(layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  let hidden = x;
  for (const [index, layer] of layers.entries()) {
    using scope = new Scope();
    const next = scope.keep(watched(layer, 'forward', () => step(layer, hidden, index)));
    if (hidden !== x) hidden.free();
    hidden = next;
  }
  return hidden;
}

function record<Layer>({ segments, recompute }: Recording, layers: readonly Layer[], x: Tensor, step: Step<Layer>): Tensor {
  const [inputs, outputs]: [Tensor[], Tensor[]] = [[], []];
  let hidden = recompute ? x : x.detach().requiresGrad_(x.requiresGrad);
  for (const [index, layer] of layers.entries()) {
    using scope = new Scope();
    inputs.push(hidden);
    if (recompute) hidden = scope.keep(watched(layer, 'forward', () => noGrad(() => step(layer, hidden, index))));
    else {
      const output = scope.keep(watched(layer, 'forward', () => step(layer, hidden, index)));
      outputs.push(output);
      hidden = scope.keep(output.detach().requiresGrad_());
    }
  }
  const output = recompute ? hidden.detach().requiresGrad_() : hidden;
  segments.push({ layers, x, inputs, outputs, output, again: (h, index) => step(layers[index] as Layer, h, index) });
  return output;
}

/**
 * Adds the gradients of the loss that `forward` computes to the parameters, going back layer by layer. With `recompute` the insides of one layer
 * are held at a time: layers keep their input alone and are computed again when their gradient's turn comes. Gives the loss. Chen et al. 2016,
 * arXiv:1604.06174.
 */
export function backwardByLayers(forward: () => Tensor, { recompute }: { recompute: boolean }): Tensor {
  const segments: Segment[] = [];
  recording = { segments, recompute };
  let loss: Tensor;
  try {
    loss = forward();
  } finally {
    recording = undefined;
  }
  if (loss.requiresGrad) loss.backward();
  for (const segment of segments.reverse()) backwardSegment(segment);
  return loss;
}

/** What a layer gives, with a graph; what it made on the way is freed before gradients need room. */
function computedAgain(again: () => Tensor): Tensor {
  using scope = new Scope();
  return scope.keep(enableGrad(again));
}

function backwardSegment({ layers, x, inputs, outputs, output, again }: Segment): void {
  using _scope = new Scope();
  let gradient = output.grad;
  for (const [index, given] of [...inputs.entries()].reverse()) {
    if (!gradient) return;
    using scope = new Scope();
    const kept = outputs[index];
    const input = kept ? given : given.detach().requiresGrad_(index > 0 || x.requiresGrad);
    const outer = gradient;
    watched(layers[index], 'backward', () => (kept ?? computedAgain(() => again(input, index))).backward(outer));
    gradient = input.grad && scope.keep(input.grad);
    kept?.free();
    if (given !== x) given.free();
    if (index === 0 && gradient) x.backward(gradient);
  }
}
