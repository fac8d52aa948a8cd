import { join } from 'node:path';
import { TinyLlavaError } from '../../errors.ts';
import { Linear } from '../../nn/linear.ts';
import { type LoraLinear, loraLayers, loraScale } from '../../nn/lora.ts';
import type { Module } from '../../nn/module.ts';
import { writeSafetensors } from '../../tensor/safetensors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { families } from '../families.ts';
import { withDraft, writeFiles } from '../folder-draft.ts';
import { jsonText } from '../hugging-face.ts';
import type { Json } from '../part.ts';
import type { TinyLlava } from '../tinyllava.ts';
import { adapterConfigFile } from './config.ts';

/** What an adapter's folder says beside its factors. */
export interface SaveAdapterOptions {
  /** The model that the adapter is for: a path, from the folder if it is relative, or a name. */
  readonly base: string;
  /** Parts of the model that learned as a whole; all of their weights are saved. */
  readonly whole?: readonly Module[];
}

/** What transformers calls a parameter in memory, by which PEFT goes; since its version 5 the level vision_model is in files alone. */
function namesIn({ config: { family } }: TinyLlava): (key: string) => string {
  return (key) => (family ? families[family].key(key) : key).replace(/^(model\.vision_tower\.)vision_model\./, '$1');
}

/** A regular expression for exactly these names among `all`: numbers of layers become \d+ where that fits no other. */
function patternOf(names: readonly string[], all: readonly string[]): string {
  const escaped = names.map((name) => name.replaceAll('.', '\\.'));
  const short = [...new Set(escaped.map((name) => name.replace(/(?<=\\\.)\d+(?=\\\.)/g, '\\d+')))].join('|');
  const wanted = new Set(names);
  const fits = new RegExp(`^(?:${short})$`);
  return all.some((name) => fits.test(name) && !wanted.has(name)) ? escaped.join('|') : short;
}

interface Strength {
  readonly rank: number;
  readonly alpha: number;
}

/** Alpha so that alpha / rank, or alpha / √rank for all layers alike, is the layer's own scale. */
function strengthOf({ options }: LoraLinear, rankStabilized: boolean): Strength {
  const { rank } = options;
  return { rank, alpha: loraScale(options) * (rankStabilized ? Math.sqrt(rank) : rank) };
}

/** PEFT's LoraConfig for the layers of a model. */
function configOf(
  layers: ReadonlyMap<string, LoraLinear>,
  all: readonly string[],
  { base, whole }: { base: string; whole: string[] },
): Json {
  const adapted = [...layers.values()];
  const rankStabilized = adapted.every(({ options }) => options.rankStabilized === true);
  const groups = new Map<string, { strength: Strength; names: string[] }>();
  for (const [name, layer] of layers) {
    const strength = strengthOf(layer, rankStabilized);
    const group = groups.get(JSON.stringify(strength)) ?? { strength, names: [] };
    group.names.push(name);
    groups.set(JSON.stringify(strength), group);
  }
  const [most, ...others] = [...groups.values()].sort((a, b) => b.names.length - a.names.length);
  const pattern = (key: keyof Strength): Json =>
    Object.fromEntries(others.map(({ strength, names }) => [patternOf(names, all), strength[key]]));
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    r: most?.strength.rank,
    lora_alpha: most?.strength.alpha,
    lora_dropout: Math.max(...adapted.map(({ dropout }) => dropout)),
    use_rslora: rankStabilized,
    rank_pattern: pattern('rank'),
    alpha_pattern: pattern('alpha'),
    target_modules: patternOf([...layers.keys()], all),
    modules_to_save: whole.length > 0 ? whole : null,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    use_dora: false,
  };
}

/**
 * Writes the low-rank changes of a model as an adapter that PEFT opens, beside `files` by name; the weights that they change are left out. Throws
 * CheckpointError, or TinyLlavaError for a model without changes.
 */
export async function saveAdapter(
  folder: string,
  model: TinyLlava,
  { base, whole = [] }: SaveAdapterOptions,
  files: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<void> {
  const nameOf = namesIn(model);
  const moduleName = (key: string): string => nameOf(`${key}.`).slice(0, -1);
  const layers = new Map([...loraLayers(model)].map(([key, layer]) => [moduleName(key), layer] as const));
  if (layers.size === 0) throw new TinyLlavaError('the model has no low-rank changes to save', { hint: 'use saveCheckpoint' });
  const linear = [...model.namedModules()].flatMap(([key, module]) => (module instanceof Linear ? [moduleName(key)] : []));
  const keys = new Map<Tensor, string>();
  for (const [key, parameter] of model.namedParameters()) keys.set(parameter, nameOf(key));
  const places = new Map<Module, string>();
  for (const [key, module] of model.namedModules()) places.set(module, moduleName(key));
  const modules = new Set<string>();
  const tensors = new Map<string, Tensor>();
  for (const module of whole) {
    const place = places.get(module) ?? '';
    for (const parameter of module.parameters()) {
      const key = keys.get(parameter) ?? '';
      // The head stands beside the language model that it belongs to; what is a parameter of the whole model has no module to name.
      if (place !== 'model') modules.add(key.startsWith(place) ? (place.split('.').at(-1) ?? place) : (key.split('.')[0] ?? key));
      tensors.set(`base_model.model.${key}`, parameter);
    }
  }
  for (const [name, { loraA, loraB }] of layers) {
    tensors.set(`base_model.model.${name}.lora_A.weight`, loraA.weight);
    tensors.set(`base_model.model.${name}.lora_B.weight`, loraB.weight);
  }
  const config = configOf(layers, linear, { base, whole: [...modules] });
  await withDraft(folder, async (draft) => {
    await writeFiles(draft, { ...files, [adapterConfigFile]: jsonText(config) }, folder);
    writeSafetensors(join(draft, 'adapter_model.safetensors'), tensors);
  });
}
