import { CheckpointError, TinyLlavaError } from '../errors.ts';
import { noGrad } from '../tensor/autograd.ts';
import { zeros } from '../tensor/create.ts';
import { keepFreedMemory } from '../tensor/device.ts';
import { roundStochastic_ } from '../tensor/functional.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { follow, takeWhole, weightTensors, wholeWeight } from './precision.ts';

/** Parameters by name that share their settings. */
export interface ParameterGroup {
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** How many numbers the whole of each has, where they are parts. */
  readonly wholes?: ReadonlyMap<string, number>;
  readonly learningRate: number;
  readonly weightDecay: number;
  /** Weights of linear layers inside the model, which Muon is for. */
  readonly hidden?: boolean;
}

/** What stands behind the parameters of all optimizers. */
export interface OptimizerOptions {
  /** float32 weights behind narrower parameters by the parameters' names, or the lower halves (int16) of those whose upper half is a bfloat16 one. */
  readonly masters?: ReadonlyMap<string, Tensor> | undefined;
  /** Of bfloat16 parameters without masters, `stochastic` unless said otherwise; `kahan` keeps what was cut off and adds it the next time. */
  readonly rounding?: 'stochastic' | 'kahan' | undefined;
  /** Of the noise of stochastic rounding. */
  readonly seed?: number | undefined;
}

/** A parameter that has a gradient. */
export interface Moved {
  readonly parameter: Tensor;
  readonly master: Tensor | undefined;
  /** float32 where it was added up over micro-batches, else of the parameter's dtype; still to be scaled. */
  readonly gradient: Tensor;
  /** What `start` gave, and `compensation` where rounding is Kahan's. */
  readonly memory: Readonly<Record<string, Tensor>>;
  /** Counts the parameter's updates from 1, this one included: a number, and [] where the parameter is. */
  readonly step: number;
  readonly steps: Tensor;
  /** A word of its own for each parameter and step. */
  readonly noise: number;
}

/** Settings of one step for a group: its learning rate as the schedule has it, and what gradients are multiplied by. */
export interface StepSettings {
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly scale: number;
}

/** How an optimizer moves parameters. */
export interface UpdateRule {
  /** Shapes and dtypes of what is remembered about a weight of a group, all zeros at first; `numel` is the whole parameter's. */
  start(
    weight: Pick<Tensor, 'shape' | 'numel' | 'dtype'>,
    group: ParameterGroup,
    numel: number,
  ): Readonly<Record<string, Pick<Tensor, 'shape' | 'dtype'>>>;
  /** Moves parameters of a group. */
  step(moved: readonly Moved[], settings: StepSettings, group: ParameterGroup): void;
}

interface Slot {
  readonly parameter: Tensor;
  readonly master: Tensor | undefined;
  readonly memory: Readonly<Record<string, Tensor>>;
  readonly steps: Tensor;
  /** The same number, for asking no device. */
  step: number;
  /** float32 gradients of earlier micro-batches. */
  sum: Tensor | undefined;
}

/** Moves parameters along their gradients by a rule, and keeps what the rule remembers. */
export abstract class Optimizer {
  readonly #groups: readonly { readonly settings: ParameterGroup; readonly slots: ReadonlyMap<string, Slot> }[];
  readonly #rule: UpdateRule;
  readonly #seed: number;

  constructor(groups: readonly ParameterGroup[], rule: UpdateRule, { masters, rounding, seed = 0 }: OptimizerOptions) {
    // Every step makes and frees the same tensors.
    keepFreedMemory(true);
    this.#rule = rule;
    this.#seed = seed;
    const slotOf = (name: string, parameter: Tensor, group: ParameterGroup): Slot => {
      const [master, { shape, device }] = [masters?.get(name), parameter];
      const compensated = rounding === 'kahan' && !master && parameter.dtype !== 'float32';
      const numel = group.wholes?.get(name) ?? parameter.numel;
      const weight = { shape, numel: parameter.numel, dtype: master ? 'float32' : parameter.dtype } as const;
      const start = { ...rule.start(weight, group, numel), ...(compensated && { compensation: weight }) };
      const memory = Object.entries(start).map(([key, { shape, dtype }]) => [key, Scope.release(zeros(shape, { dtype, device }))] as const);
      return {
        parameter,
        master,
        memory: Object.fromEntries(memory),
        steps: Scope.release(zeros([], { device })),
        step: 0,
        sum: undefined,
      };
    };
    this.#groups = groups.map((settings) => ({
      settings,
      slots: new Map(Array.from(settings.parameters, ([name, parameter]) => [name, slotOf(name, parameter, settings)] as const)),
    }));
  }

  *#slots(): Iterable<[string, Slot]> {
    for (const { slots } of this.#groups) yield* slots;
  }

  /** What learns, by name. */
  *parameters(): Iterable<[string, Tensor]> {
    for (const [name, { parameter }] of this.#slots()) yield [name, parameter];
  }

  /** The gradients that the parameters have now, owned by the innermost scope. */
  gradients(): Tensor[] {
    return Array.from(this.#slots(), ([, slot]) => gradientOf(slot)).filter((gradient) => gradient !== undefined);
  }

  /** The gradient that a parameter has now, all micro-batches together; none where nothing reached it. */
  gradient(name: string): Tensor | undefined {
    return gradientOf(this.#slot(name));
  }

  /** Puts a gradient in float32, which the optimizer then owns, in the place of a parameter's own. */
  setGradient(name: string, gradient: Tensor | undefined): void {
    const slot = this.#slot(name);
    slot.parameter.grad = undefined;
    slot.sum?.free();
    slot.sum = gradient && Scope.release(gradient);
  }

  #slot(name: string): Slot {
    for (const { slots } of this.#groups) {
      const slot = slots.get(name);
      if (slot) return slot;
    }
    throw new TinyLlavaError(`${name} does not learn`);
  }

  /** Whether gradients were set aside since the last step. */
  get banked(): boolean {
    for (const [, { sum }] of this.#slots()) if (sum) return true;
    return false;
  }

  /**
   * Adds the gradients of a micro-batch to those of the ones before in float32, where narrower ones would be rounded at every addition; of one
   * parameter or all. For calling behind each backward pass of a step that has several.
   */
  bank(only?: string): void {
    using _scope = new Scope();
    noGrad(() => {
      for (const slot of only === undefined ? Array.from(this.#slots(), ([, slot]) => slot) : [this.#slot(only)]) {
        if (slot.parameter.dtype === 'float32') continue;
        const gradient = slot.parameter.grad;
        if (!gradient) continue;
        if (slot.sum) slot.sum.add_(gradient);
        else slot.sum = Scope.release(gradient.cast('float32'));
        slot.parameter.grad = undefined;
      }
    });
  }

  /** Moves every parameter that has a gradient; `factor` scales the groups' learning rates, `scale` the gradients. */
  step(factor: number, { scale = 1 }: { scale?: number } = {}): void {
    using _scope = new Scope();
    noGrad(() => {
      let place = 0;
      for (const { settings, slots } of this.#groups) {
        const moved: Moved[] = [];
        for (const slot of slots.values()) {
          place++;
          const gradient = gradientOf(slot);
          if (!gradient) continue;
          slot.steps.add_(1);
          slot.step++;
          moved.push({ ...slot, gradient, noise: noiseOf(this.#seed, place, slot.step) });
        }
        const { learningRate, weightDecay } = settings;
        if (moved.length > 0) this.#rule.step(moved, { learningRate: learningRate * factor, weightDecay, scale }, settings);
      }
    });
  }

  /** Drops all gradients. */
  zeroGradients(): void {
    for (const [, slot] of this.#slots()) {
      slot.parameter.grad = undefined;
      slot.sum?.free();
      slot.sum = undefined;
    }
  }

  /** What is learned: masters where there are any, else parameters; both where they are halves of a weight. */
  *weights(): Iterable<[string, Tensor]> {
    for (const [name, { master, parameter }] of this.#slots()) yield* weightTensors(name, parameter, master);
  }

  /** Takes over what `weights` gave. */
  setWeights(source: WeightSource): void {
    using _scope = new Scope();
    noGrad(() => {
      for (const [name, tensor] of this.weights()) tensor.copy_(fitted(source.tensor(name), tensor));
      for (const [, { master, parameter }] of this.#slots()) if (master) follow(parameter, master);
    });
  }

  /** Everything needed to go on later: what is learned and what is remembered of it. */
  *snapshot(): Iterable<[string, Tensor]> {
    yield* this.weights();
    for (const [name, { memory, steps }] of this.#slots()) {
      for (const [key, tensor] of Object.entries(memory)) yield [`optimizer.${name}.${key}`, tensor];
      yield [`optimizer.${name}.steps`, steps];
    }
  }

  /** Takes over what `snapshot` gave, into the parameters too. Throws CheckpointError when it belongs to other parameters. */
  restore(source: WeightSource): void {
    const own = new Map(this.snapshot());
    const strange = [...source.names.filter((name) => !own.has(name)), ...[...own.keys()].filter((name) => !source.names.includes(name))];
    if (strange.length > 0) {
      throw new CheckpointError(`${source.path}: the optimizer state is of another stage: ${strange.slice(0, 3).join(', ')}`, {
        hint: 'resume with the recipe that wrote it',
      });
    }
    using _scope = new Scope();
    noGrad(() => {
      for (const [name, tensor] of own) tensor.copy_(fitted(source.tensor(name), tensor));
      for (const [, slot] of this.#slots()) {
        slot.step = slot.steps.item();
        if (slot.master) follow(slot.parameter, slot.master);
      }
    });
  }

  /** Gives back the memory of all but the weights. */
  free(): void {
    this.zeroGradients();
    for (const [, { memory, steps }] of this.#slots()) for (const tensor of [...Object.values(memory), steps]) tensor.free();
    keepFreedMemory(false);
  }
}

/** What was saved in parts comes flat, with zeros behind its end. */
const fitted = (stored: Tensor, { shape, numel }: Tensor): Tensor =>
  stored.rank === shape.length && stored.numel === numel ? stored : stored.narrow(0, 0, numel).view(...shape);

const gradientOf = ({ sum, parameter }: Slot): Tensor | undefined => sum ?? parameter.grad;

const noiseOf = (seed: number, place: number, step: number): number =>
  (Math.imul(seed, 0x9e3779b9) + Math.imul(place, 0x85ebca6b) + Math.imul(step, 0xc2b2ae35)) >>> 0;

/**
 * Lets `change` move the weight of a parameter in float32, in place, by its scaled gradient in float32; a parameter that is narrower becomes its
 * master rounded, or without one the weight rounded stochastically, or, with compensation, to the nearest.
 */
export function moveWeight(
  { parameter, master, gradient, memory: { compensation }, noise }: Moved,
  scale: number,
  change: (weight: Tensor, gradient: Tensor) => void,
): void {
  using _scope = new Scope();
  const whole = gradient.cast('float32');
  const weight = master ? wholeWeight(parameter, master) : parameter.detach().cast('float32');
  if (compensation) weight.add_(compensation);
  change(weight, scale === 1 ? whole : whole.mul(scale));
  if (master) takeWhole(parameter, master, weight);
  else if (compensation) compensation.copy_(weight.sub(parameter.copy_(weight).detach().cast('float32')));
  else if (parameter.dtype !== 'float32') roundStochastic_(parameter, weight, noise);
}
