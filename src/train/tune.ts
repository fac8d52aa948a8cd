import { ConfigError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { DropoutSeed } from '../nn/lora.ts';
import type { Module } from '../nn/module.ts';
import { LayerNorm, RmsNorm } from '../nn/norm.ts';
import { Generator } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { addLora, loraParameters } from './low-rank.ts';
import type { ParameterGroup } from './optimizer.ts';
import { isLora, type PartName, partNames, type Stage } from './recipe.ts';

/** The module behind each name in `learns`. */
export const partsOf = ({ visionTower, connector, languageModel }: TinyLlava): Record<PartName, Module | undefined> => ({
  vision: visionTower,
  connector,
  language: languageModel,
});

/** Parameters of a part's layers from number `layer` on. Throws ConfigError where there are fewer layers. */
function* fromLayer(part: Module, layer: number, what: string): Iterable<Tensor> {
  const [all, found]: [Set<number>, Tensor[]] = [new Set(), []];
  for (const [key, parameter] of part.namedParameters()) {
    const number = /(?:^|\.)_?(?:layers?|blocks)\.(\d+)\./.exec(key)?.[1];
    if (number === undefined) continue;
    all.add(Number(number));
    if (Number(number) >= layer) found.push(parameter);
  }
  if (found.length > 0) return yield* found;
  throw new ConfigError(`${what}: from-layer: ${layer}, but it has ${all.size} layers`, {
    hint: all.size > 0 ? `the last one is ${Math.max(...all)}` : 'use tune: full',
  });
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
    return [...fromLayer(module, tuning.layer, what)].reduce((sum, { numel }) => sum + numel, 0);
  };
  return { vision: count('vision'), connector: count('connector'), language: count('language') };
}

/**
 * Lets the parts learn that the stage names and freezes the others; `seed` is where fresh low-rank changes come from. Gives the seed of dropout,
 * without which nothing is dropped. Throws ConfigError when it names a part or a layer that the model lacks.
 */
export function tune(
  model: TinyLlava,
  { name, learns }: Pick<Stage, 'name' | 'learns'>,
  { seed = 0 }: { seed?: number } = {},
): DropoutSeed {
  const dropout = new DropoutSeed();
  const generator = new Generator(seed);
  for (const [part, module] of Object.entries(partsOf(model)) as [PartName, Module | undefined][]) {
    const tuning = learns[part];
    const what = `stage ${name}: ${part}`;
    if (tuning.tune !== 'frozen' && !module) throw new ConfigError(`${what} is to learn, but the model has none`);
    module?.trainable(tuning.tune === 'full');
    if (!module) continue;
    if (tuning.tune === 'from-layer') for (const parameter of fromLayer(module, tuning.layer, what)) parameter.requiresGrad_();
    if (isLora(tuning)) addLora(model, module, tuning, { what, generator, dropout });
  }
  model.arrangement?.trainable(learns.connector.tune === 'full');
  return dropout;
}

/** Biases and the weights of norms, which weight decay leaves alone, as in Hugging Face's Trainer. */
function* undecayed(module: Module): Iterable<Tensor> {
  if (module instanceof LayerNorm || module instanceof RmsNorm) yield* module.parameters();
  for (const [key, parameter] of module.namedParameters()) if (key.includes('bias')) yield parameter;
  for (const [, child] of module.children()) yield* undecayed(child);
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
    const [decayed, others]: [Map<string, Tensor>, Map<string, Tensor>] = [new Map(), new Map()];
    // What is learned of the arrangement goes with the connector.
    const arrangement = part === 'connector' ? (model.arrangement?.parameters() ?? []) : [];
    for (const parameter of [...module.parameters(), ...arrangement]) {
      if (parameter.requiresGrad) (plain.has(parameter) ? others : decayed).set(keys.get(parameter) ?? '', parameter);
    }
    const learningRate = tuning.learningRate ?? optimizer.learningRate;
    return [
      { parameters: decayed, learningRate, weightDecay: optimizer.weightDecay },
      { parameters: others, learningRate, weightDecay: 0 },
    ].filter(({ parameters }) => parameters.size > 0);
  });
}
