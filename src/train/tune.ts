import { ConfigError } from '../errors.ts';
import { LanguageModel } from '../model/language/language-model.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { VisionTower } from '../model/vision/vision-tower.ts';
import { Linear } from '../nn/linear.ts';
import { DropoutSeed } from '../nn/lora.ts';
import type { Module } from '../nn/module.ts';
import { Norm } from '../nn/norm.ts';
import type { DType } from '../tensor/dtype.ts';
import { Generator } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Adafactor } from './adafactor.ts';
import { AdamW } from './adamw.ts';
import { AdamW8bit } from './adamw-8bit.ts';
import { blockOf, blocksRun } from './blocks.ts';
import { addLora, loraParameters } from './low-rank.ts';
import { Muon } from './muon.ts';
import type { Optimizer, OptimizerOptions, ParameterGroup } from './optimizer.ts';
import { isLora, type OptimizerSettings, type PartName, partNames, type Stage } from './recipe.ts';

/** The module behind each name in `learns`. */
export const partsOf = ({ visionTower, connector, languageModel }: TinyLlava): Record<PartName, Module | undefined> => ({
  vision: visionTower,
  connector,
  language: languageModel,
});

/** Parameters of a part's layers from number `layer` to the last one that is run. Throws ConfigError where there are none. */
function* fromLayer(model: TinyLlava, name: PartName, layer: number, what: string): Iterable<Tensor> {
  const part = partsOf(model)[name] as Module;
  const run = name === 'vision' ? blocksRun(part, model.config.vision?.['featureLayer']) : Number.POSITIVE_INFINITY;
  const [all, found]: [Set<number>, Tensor[]] = [new Set(), []];
  for (const [key, parameter] of part.namedParameters()) {
    const number = blockOf(key);
    if (number === undefined) continue;
    all.add(number);
    if (number >= layer && number < run) found.push(parameter);
  }
  if (found.length > 0) return yield* found;
  const there = all.has(layer) ? `features are taken behind ${run} of its ${all.size} layers` : `it has ${all.size} layers`;
  const last = Math.min(run, all.size) - 1;
  throw new ConfigError(`${what}: from-layer: ${layer}, but ${there}`, { hint: last >= 0 ? `the last one is ${last}` : 'use tune: full' });
}

/** How many numbers of each part would learn. Throws ConfigError when the stage names a part or a layer that the model lacks. */
export function trainableOf(model: TinyLlava, { name, learns }: Pick<Stage, 'name' | 'learns'>): Record<PartName, number> {
  const parts = partsOf(model);
  const count = (part: PartName): number => {
    const [module, tuning, what] = [parts[part], learns[part], `stage ${name}: ${part}`];
    if (tuning.tune === 'frozen') return 0;
    if (!module) throw new ConfigError(`${what} is to learn, but the model has none`);
    if (isLora(tuning)) return loraParameters(model, module, tuning, what);
    if (tuning.tune === 'full') return module.parameterCount() + (part === 'connector' ? (model.arrangement?.parameterCount() ?? 0) : 0);
    return [...fromLayer(model, part, tuning.layer, what)].reduce((sum, { numel }) => sum + numel, 0);
  };
  return { vision: count('vision'), connector: count('connector'), language: count('language') };
}

/**
 * Lets the parts learn that the stage names and freezes the others; `seed` is where fresh low-rank changes come from, and weights that qlora puts
 * into a few bits are rounded to `dtype` first. Gives the seed of dropout, without which nothing is dropped. Throws ConfigError when it names a part
 * or a layer that the model lacks.
 */
export function tune(
  model: TinyLlava,
  { name, learns }: Pick<Stage, 'name' | 'learns'>,
  { seed = 0, dtype }: { seed?: number; dtype?: DType } = {},
): DropoutSeed {
  const dropout = new DropoutSeed();
  const generator = new Generator(seed);
  for (const [part, module] of Object.entries(partsOf(model)) as [PartName, Module | undefined][]) {
    const tuning = learns[part];
    const what = `stage ${name}: ${part}`;
    if (tuning.tune !== 'frozen' && !module) throw new ConfigError(`${what} is to learn, but the model has none`);
    module?.trainable(tuning.tune === 'full');
    if (!module) continue;
    if (tuning.tune === 'from-layer') for (const parameter of fromLayer(model, part, tuning.layer, what)) parameter.requiresGrad_();
    if (isLora(tuning)) addLora(model, module, tuning, { what, generator, dropout, dtype });
  }
  model.arrangement?.trainable(learns.connector.tune === 'full');
  return dropout;
}

/** Biases and the weights of norms, which weight decay leaves alone, as in Hugging Face's Trainer. */
function* undecayed(module: Module): Iterable<Tensor> {
  if (module instanceof Norm) yield* module.parameters();
  for (const [key, parameter] of module.namedParameters()) if (key.includes('bias')) yield parameter;
  for (const [, child] of module.children()) yield* undecayed(child);
}

/** The weights of linear layers, a language model's head apart. */
function* hiddenWeights(module: Module): Iterable<Tensor> {
  const head = module instanceof LanguageModel ? module.headWeight : undefined;
  if (module instanceof Linear) yield module.weight;
  for (const [, child] of module.children()) for (const weight of hiddenWeights(child)) if (weight !== head) yield weight;
}

/**
 * What each parameter's learning rate is multiplied by so that it falls from layer to layer towards the input. Clark et al. 2020, arXiv:2003.10555;
 * counted as timm does: what stands before the layers is one more of them, what stands behind is with the last.
 */
function layerFactors(part: Module, decay: number): Map<Tensor, number> {
  // Towers side by side see one image, so each begins again.
  const towers = Array.from(part.children(), ([, child]) => child).filter((child) => child instanceof VisionTower);
  if (towers.length > 0) return new Map(towers.flatMap((tower) => [...layerFactors(tower, decay)]));
  const places = new Map<Tensor, number>();
  let place = 0;
  for (const [key, parameter] of part.namedParameters()) {
    const block = blockOf(key);
    if (block !== undefined) place = block + 1;
    places.set(parameter, place);
  }
  const last = Math.max(...places.values());
  return new Map(Array.from(places, ([parameter, place]) => [parameter, decay ** (last - place)] as const));
}

/** What learns after `tune`, in groups of one learning rate and weight decay; parameters go by their checkpoint keys. */
export function parameterGroups(model: TinyLlava, { learns, optimizer }: Pick<Stage, 'learns' | 'optimizer'>): ParameterGroup[] {
  const keys = new Map<Tensor, string>();
  for (const [key, parameter] of model.namedParameters()) keys.set(parameter, key);
  return partNames.flatMap((part) => {
    const module = partsOf(model)[part];
    const tuning = learns[part];
    if (!module || tuning.tune === 'frozen') return [];
    const plain = new Set(undecayed(module));
    const factors = isLora(tuning) || tuning.layerDecay === undefined ? undefined : layerFactors(module, tuning.layerDecay);
    const inner = optimizer.type === 'muon' ? new Set(hiddenWeights(module)) : undefined;
    const groups = new Map<string, ParameterGroup & { parameters: Map<string, Tensor> }>();
    // What is learned of the arrangement goes with the connector.
    const arrangement = part === 'connector' ? (model.arrangement?.parameters() ?? []) : [];
    for (const parameter of [...module.parameters(), ...arrangement]) {
      if (!parameter.requiresGrad) continue;
      const learningRate = (tuning.learningRate ?? optimizer.learningRate) * (factors?.get(parameter) ?? 1);
      const weightDecay = plain.has(parameter) ? 0 : optimizer.weightDecay;
      const hidden = inner?.has(parameter) ?? false;
      const name = `${learningRate} ${plain.has(parameter)} ${hidden}`;
      const group = groups.get(name) ?? { parameters: new Map<string, Tensor>(), learningRate, weightDecay, ...(inner && { hidden }) };
      groups.set(name, group);
      group.parameters.set(keys.get(parameter) ?? '', parameter);
    }
    return [...groups.values()];
  });
}

/** The optimizer of a stage over these groups. */
export function optimizerOf({ type, ...options }: OptimizerSettings & OptimizerOptions, groups: readonly ParameterGroup[]): Optimizer {
  if (type === 'adafactor') return new Adafactor(groups, options);
  if (type === 'adamw-8bit') return new AdamW8bit(groups, options);
  return type === 'muon' ? new Muon(groups, options) : new AdamW(groups, options);
}
