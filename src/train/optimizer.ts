import { CheckpointError } from '../errors.ts';
import { noGrad } from '../tensor/autograd.ts';
import { zeros } from '../tensor/create.ts';
import { fusedAdamW } from '../tensor/functional.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Parameters by name that share their settings. */
export interface ParameterGroup {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** Settings of AdamW that all groups share. */
export interface AdamWOptions {
  readonly betas: readonly [number, number];
  readonly eps: number;
}

/** What AdamW remembers about one parameter. `steps` [] counts its updates, as the bias correction needs it. */
interface Moments {
  readonly mean: Tensor;
  readonly square: Tensor;
  readonly steps: Tensor;
}

interface Slot extends Moments {
  readonly parameter: Tensor;
}

function startOf(parameter: Tensor): Slot {
  const { shape, dtype, device } = parameter;
  const zero = (): Tensor => Scope.release(zeros(shape, { dtype, device }));
  return { parameter, mean: zero(), square: zero(), steps: Scope.release(zeros([], { device })) };
}

/** AdamW in one fused call for each group, equal to PyTorch's. Loshchilov and Hutter 2019, arXiv:1711.05101. */
export class AdamW {
  readonly #groups: readonly { readonly settings: ParameterGroup; readonly slots: ReadonlyMap<string, Slot> }[];
  readonly #options: AdamWOptions;

  constructor(groups: readonly ParameterGroup[], options: AdamWOptions) {
    this.#options = options;
    this.#groups = groups.map((settings) => ({
      settings,
      slots: new Map(Array.from(settings.parameters, ([name, parameter]) => [name, startOf(parameter)])),
    }));
  }

  *#slots(): Iterable<[string, Slot]> {
    for (const { slots } of this.#groups) yield* slots;
  }

  /** The gradients that the parameters have now, owned by the innermost scope. */
  gradients(): Tensor[] {
    return Array.from(this.#slots(), ([, { parameter }]) => parameter.grad).filter((gradient) => gradient !== undefined);
  }

  /** Moves every parameter that has a gradient; `factor` scales the groups' learning rates. */
  step(factor: number): void {
    using _scope = new Scope();
    noGrad(() => {
      for (const { settings, slots } of this.#groups) {
        const moved = Array.from(slots.values(), (slot) => ({ ...slot, gradient: slot.parameter.grad })).filter(
          (slot): slot is Slot & { gradient: Tensor } => slot.gradient !== undefined,
        );
        if (moved.length === 0) continue;
        for (const { steps } of moved) steps.add_(1);
        fusedAdamW(
          {
            parameters: moved.map((slot) => slot.parameter),
            gradients: moved.map((slot) => slot.gradient),
            means: moved.map((slot) => slot.mean),
            squares: moved.map((slot) => slot.square),
            steps: moved.map((slot) => slot.steps),
          },
          { ...this.#options, learningRate: settings.learningRate * factor, weightDecay: settings.weightDecay },
        );
      }
    });
  }

  /** Drops all gradients. */
  zeroGradients(): void {
    for (const [, { parameter }] of this.#slots()) parameter.grad = undefined;
  }

  /** Everything needed to go on later, by the names that `load` reads. */
  *state(): Iterable<[string, Tensor]> {
    for (const [name, { mean, square, steps }] of this.#slots()) {
      yield [`${name}.mean`, mean];
      yield [`${name}.square`, square];
      yield [`${name}.steps`, steps];
    }
  }

  /** Takes over what `state` gave. Throws CheckpointError when it belongs to other parameters. */
  load(source: WeightSource): void {
    const own = new Map(this.state());
    const strange = [...source.names.filter((name) => !own.has(name)), ...[...own.keys()].filter((name) => !source.names.includes(name))];
    if (strange.length > 0) {
      throw new CheckpointError(`${source.path}: the optimizer state is of another stage: ${strange.slice(0, 3).join(', ')}`, {
        hint: 'resume with the recipe that wrote it',
      });
    }
    using _scope = new Scope();
    noGrad(() => {
      for (const [name, tensor] of own) tensor.copy_(source.tensor(name));
    });
  }

  /** Gives back the memory of the state. */
  free(): void {
    for (const [, tensor] of this.state()) tensor.free();
  }
}
