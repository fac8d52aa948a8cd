import { ConfigError } from '../errors.ts';
import { nearest } from '../model/registry.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { Linear } from '../nn/linear.ts';
import { type DropoutSeed, LoraLinear, type LoraOptions, loraLayers, mergeLora } from '../nn/lora.ts';
import type { Module } from '../nn/module.ts';
import { type QuantizedBits, QuantizedLinear } from '../nn/quantized-linear.ts';
import { trimMemory } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Generator } from '../tensor/random.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { LoraTuning } from './recipe.ts';

/** The linear layers of a part by their keys in the model, the head's apart, whose product is a part of the loss. */
function linearLayers(model: TinyLlava, part: Module): Map<string, Linear | LoraLinear> {
  const inside = new Set(Array.from(part.namedModules(), ([, module]) => module));
  const hidden = new Set([...loraLayers(part).values()].flatMap((layer) => Array.from(layer.namedModules(), ([, module]) => module)));
  const found = new Map<string, Linear | LoraLinear>();
  for (const [key, module] of model.namedModules()) {
    if (!inside.has(module) || hidden.has(module) || key === 'lm_head') continue;
    if (module instanceof Linear || module instanceof LoraLinear) found.set(key, module);
  }
  return found;
}

/** Those among the keys that `targets` means. Throws ConfigError that names a target which is none. */
function chosen(targets: LoraTuning['targets'], keys: readonly string[], what: string): string[] {
  if (targets === 'all') {
    if (keys.length > 0) return [...keys];
    throw new ConfigError(`${what} has no linear layers for lora`);
  }
  const ends = [...new Set(keys.map((key) => key.split('.').at(-1) ?? key))];
  if (typeof targets === 'string') {
    const pattern = new RegExp(`^(?:${targets})$`);
    const found = keys.filter((key) => pattern.test(key));
    if (found.length > 0) return found;
    throw new ConfigError(`${what}: targets: no linear layer is called ${targets}`, { hint: `a whole key is meant, as ${keys[0]}` });
  }
  const fits = (key: string, target: string): boolean => key === target || key.endsWith(`.${target}`);
  for (const target of targets) {
    if (keys.some((key) => fits(key, target))) continue;
    const guess = nearest(target, ends);
    throw new ConfigError(`${what}: targets: no linear layer is called ${target}`, {
      hint: `${guess ? `did you mean "${guess}"? ` : ''}known: ${ends.join(', ')}`,
    });
  }
  return keys.filter((key) => targets.some((target) => fits(key, target)));
}

/** The layers of a part that a tuning changes. `what` names the part in messages. Throws ConfigError. */
export function loraTargets(model: TinyLlava, part: Module, { targets }: LoraTuning, what: string): Map<string, Linear | LoraLinear> {
  const layers = linearLayers(model, part);
  return new Map(chosen(targets, [...layers.keys()], what).flatMap((key) => [[key, layers.get(key) as Linear]]));
}

const optionsOf = ({ rank, alpha = 2 * rank, dropout, rankStabilized }: LoraTuning): LoraOptions => ({
  rank,
  alpha,
  dropout,
  rankStabilized,
});

/** Factors that a tuning adds, in numbers. */
export function loraParameters(model: TinyLlava, part: Module, tuning: LoraTuning, what: string): number {
  let count = 0;
  for (const { weightShape } of loraTargets(model, part, tuning, what).values()) count += tuning.rank * (weightShape[0] + weightShape[1]);
  return count;
}

/** Numbers in the weights of all linear layers of a part, which are what qlora makes smaller. */
export function linearNumbers(model: TinyLlava, part: Module): number {
  return [...linearLayers(model, part).values()].reduce((sum, { weightShape }) => sum + weightShape[0] * weightShape[1], 0);
}

/**
 * Puts low-rank changes that learn beside the frozen weights of a part, or goes on with those that are there; qlora puts all of its linear
 * layers into a few bits. Throws ConfigError.
 */
export function addLora(
  model: TinyLlava,
  part: Module,
  tuning: LoraTuning,
  { what, generator, dropout, dtype }: { what: string; generator: Generator; dropout: DropoutSeed; dtype: DType | undefined },
): void {
  const layers = linearLayers(model, part);
  const targets = loraTargets(model, part, tuning, what);
  const already = loraLayers(model);
  const options = optionsOf(tuning);
  const { device } = model.languageModel.headWeight;
  for (const [key, layer] of already) if (layers.has(key)) checkSame(layer.options, options, `${what}: ${key}`);
  model.replaceModules<Linear, Linear>(Linear, (layer, key) => {
    if (!layers.has(key)) return undefined;
    const base = tuning.tune === 'qlora' ? quantized(layer, tuning.bits, dtype) : layer;
    if (!targets.has(key) || already.has(key)) return base;
    const adapted = new LoraLinear(base, options);
    adapted.initializeFactors(generator, { device });
    return adapted;
  });
  if (tuning.tune === 'qlora' && device === 'cpu') moveTogether(model);
  for (const [number, [key, layer]] of [...loraLayers(model)].entries()) {
    if (layers.has(key)) layer.learn({ dropout: tuning.dropout, seed: dropout, layer: number });
  }
}

function checkSame(there: LoraOptions, wanted: LoraOptions, where: string): void {
  const described = ({ rank, alpha, rankStabilized = false }: LoraOptions): string =>
    `rank ${rank}, alpha ${alpha}${rankStabilized ? ', rank-stabilized' : ''}`;
  if (described(there) === described(wanted)) return;
  throw new ConfigError(`${where} has an adapter of ${described(there)} already, not of ${described(wanted)}`, {
    hint: 'give the recipe the settings of the adapter, or open the model with the adapter merged',
  });
}

function quantized(layer: Linear, bits: QuantizedBits, dtype: DType | undefined): Linear {
  const made = new QuantizedLinear(layer, bits, { dtype });
  layer.free();
  return made;
}

/** Weights that were read together are one piece of memory, which is given back when all of them are elsewhere. */
function moveTogether(model: TinyLlava): void {
  const own = new Map(model.namedParameters());
  const find = (name: string): Tensor => own.get(name) as Tensor;
  model.load({
    path: 'the model',
    names: [...own.keys()],
    shape: (name) => find(name).shape,
    dtype: (name) => find(name).dtype,
    tensor: find,
  });
  trimMemory();
}

/** Adds all low-rank changes to their weights and decodes what lies in a few bits: plain layers with the keys of checkpoints again. */
export function settle(model: TinyLlava): void {
  mergeLora(model);
  model.replaceModules<QuantizedLinear, Linear>(QuantizedLinear, (layer) => {
    const decoded = Linear.of(Scope.release(layer.weight), layer.bias);
    layer.free();
    return decoded;
  });
}
