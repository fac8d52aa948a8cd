import { CheckpointError, ConfigError } from '../../errors.ts';
import { stack, tensor } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Source } from '../source.ts';
import { type Architecture, architectures } from './architectures.ts';
import { type LanguageWeights, openElmFields, openElmTensors } from './openelm.ts';
import { type Fields, PartSettings } from './settings.ts';
import type { Made } from './tensors.ts';

/** A language model as llama.cpp has it. */
export interface GgufLanguage {
  readonly architecture: string;
  readonly fields: Fields;
  readonly made: readonly Made[];
}

const names: Readonly<Record<string, string>> = {
  embed_tokens: 'token_embd',
  norm: 'output_norm',
  final_layernorm: 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.qkv_proj': 'attn_qkv',
  'self_attn.o_proj': 'attn_output',
  'self_attn.dense': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.gate_up_proj': 'ffn_up',
  'mlp.fc1': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'mlp.fc2': 'ffn_down',
};

/** The weights of the language model among those of the whole. */
function weightsOf({ model, weights }: Source): LanguageWeights {
  const { languageModel } = model;
  const prefix = `${model.visionTower ? 'model.language_model' : languageModel.prefix}.`;
  const relative = (key: string): string | undefined =>
    key.startsWith('lm_head.')
      ? key
      : key.startsWith(prefix) && !/^model\.(vision_tower|multi_modal_projector)\./.test(key)
        ? key.slice(prefix.length)
        : undefined;
  const entries = Array.from(model.namedParameters(), ([key]) => [relative(key), weights.shape(key)] as const);
  return {
    shapes: new Map(entries.flatMap(([key, shape]) => (key === undefined ? [] : [[key, shape] as const]))),
    keyOf: (key) => (key.startsWith('lm_head.') ? key : prefix + key),
  };
}

/** StableLM's norms of heads, one weight each, are one tensor a layer. */
function headNorms({ shapes, keyOf }: LanguageWeights): Made[] {
  const groups = new Map<string, string[]>();
  for (const key of shapes.keys()) {
    const [, layer, side] = /^layers\.(\d+)\.self_attn\.([qk])_layernorm\.norms\.\d+\.weight$/.exec(key) ?? [];
    if (layer === undefined) continue;
    const name = `blk.${layer}.attn_${side}_norm.weight`;
    groups.set(name, [...(groups.get(name) ?? []), key]);
  }
  return [...groups].map(([name, keys]) => ({
    name,
    keys: keys.map(keyOf),
    shape: [keys.length, ...(shapes.get(keys[0] ?? '') ?? [])],
    make: (...norms: readonly Tensor[]) => stack(norms),
  }));
}

function usualTensors(architecture: Architecture, { config: { language } }: Source, weights: LanguageWeights): Made[] {
  const { shapes, keyOf } = weights;
  const table = { ...names, ...architecture.names };
  const made = [...shapes].flatMap(([key, shape]): Made[] => {
    if (/\.norms\.\d+\.weight$/.test(key)) return [];
    const [, layer, part = '', kind] = /^(?:layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(key) ?? [];
    const name = table[part];
    if (name === undefined) throw new ConfigError(`gguf: llama.cpp has no name for "${key}" of ${language.type}`);
    const { mend } = architecture;
    return [
      {
        name: `${layer === undefined ? '' : `blk.${layer}.`}${name}.${kind}`,
        keys: [keyOf(key)],
        shape,
        ...(mend && { make: (weight) => mend(weight as Tensor, key, language) }),
      },
    ];
  });
  const head = architecture.needsHead && !shapes.has('lm_head.weight') ? made.find(({ name }) => name === 'token_embd.weight') : undefined;
  return [...made, ...headNorms(weights), ...(head ? [{ ...head, name: 'output.weight' }] : [])];
}

const settingTensor = (name: string, values: readonly number[]): Made => ({
  name,
  keys: [],
  shape: [values.length],
  make: () => tensor([...values]),
  type: 'F32',
});

/** The language model of a source for llama.cpp. Throws ConfigError for one that llama.cpp lacks, or whose settings it does not compute. */
export function ggufLanguage(source: Source): GgufLanguage {
  const { language } = source.config;
  const settings = new PartSettings(language);
  const weights = weightsOf(source);
  if (language.type === 'openelm')
    return { architecture: 'openelm', fields: openElmFields(settings, weights), made: openElmTensors(weights) };
  const architecture = Object.hasOwn(architectures, language.type) ? architectures[language.type] : undefined;
  if (!architecture) {
    throw new CheckpointError(`gguf: llama.cpp has no language model ${language.type}`, {
      hint: `it has ${[...Object.keys(architectures), 'openelm'].join(', ')}`,
    });
  }
  const extra = Object.entries(architecture.settingTensors?.(settings) ?? {});
  return {
    architecture: architecture.name,
    fields: architecture.fields(settings),
    made: [
      ...extra.flatMap(([name, values]) => (values ? [settingTensor(name, values)] : [])),
      ...usualTensors(architecture, source, weights),
    ],
  };
}
