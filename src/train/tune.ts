import { ConfigError } from '../errors.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Module } from '../nn/module.ts';
import { LayerNorm, RmsNorm } from '../nn/norm.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { ParameterGroup } from './optimizer.ts';
import { type PartName, partNames, type Stage } from './recipe.ts';

/** The module behind each name in `learns`. */
export const partsOf = ({ visionTower, connector, languageModel }: TinyLlava): Record<PartName, Module | undefined> => ({
  vision: visionTower,
  connector,
  language: languageModel,
});

/** Lets the parts learn that the stage names and freezes the others. Throws ConfigError when it names one that the model lacks. */
export function tune(model: TinyLlava, { name, learns }: Pick<Stage, 'name' | 'learns'>): void {
  for (const [part, module] of Object.entries(partsOf(model)) as [PartName, Module | undefined][]) {
    const { tune } = learns[part];
    if (tune !== 'frozen' && !module) throw new ConfigError(`stage ${name}: ${part} is to learn, but the model has none`);
    module?.trainable(tune === 'full');
  }
  model.arrangement?.trainable(learns.connector.tune === 'full');
}

/** Biases and the weights of norms, which weight decay leaves alone, as in Hugging Face's Trainer. */
function* undecayed(module: Module): Iterable<Tensor> {
  if (module instanceof LayerNorm || module instanceof RmsNorm) yield* module.parameters();
  for (const [key, parameter] of module.namedParameters()) if (key.includes('bias')) yield parameter;
  for (const [, child] of module.children()) yield* undecayed(child);
}

/** What learns, in groups of one learning rate and weight decay; parameters go by their checkpoint keys. */
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
    for (const parameter of [...module.parameters(), ...arrangement])
      (plain.has(parameter) ? others : decayed).set(keys.get(parameter) ?? '', parameter);
    const learningRate = tuning.learningRate ?? optimizer.learningRate;
    return [
      { parameters: decayed, learningRate, weightDecay: optimizer.weightDecay },
      { parameters: others, learningRate, weightDecay: 0 },
    ].filter(({ parameters }) => parameters.size > 0);
  });
}
