import { ConfigError } from '../../errors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Fields, PartSettings } from './settings.ts';
import { float, whole } from './settings.ts';
import type { Made } from './tensors.ts';

/** The weights of a language model: their shapes by keys relative to it, and their keys among all. */
export interface LanguageWeights {
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly keyOf: (relative: string) => string;
}

const names: Readonly<Record<string, string>> = {
  token_embeddings: 'token_embd',
  norm: 'output_norm',
  'attn.qkv_proj': 'attn_qkv',
  'attn.q_norm': 'attn_q_norm',
  'attn.k_norm': 'attn_k_norm',
  'attn.out_proj': 'attn_output',
  attn_norm: 'attn_norm',
  ffn_norm: 'ffn_norm',
  'ffn.proj_2': 'ffn_down',
};

/** OpenELM's metadata, with sizes that differ from layer to layer. Throws ConfigError for settings that llama.cpp does not compute. */
export function openElmFields(settings: PartSettings, { shapes }: LanguageWeights): Fields {
  settings.demand(settings.config['ffnWithGlu'] === true, 'ffnWithGlu', 'gated perceptrons');
  settings.demand(settings.config['normalizeQkProjections'] === true, 'normalizeQkProjections', 'norms of heads');
  settings.demand(settings.config['shareInputOutputLayers'] === true, 'shareInputOutputLayers', 'a head that is the embeddings');
  settings.demand(/^(silu|swish)$/.test(String(settings.config['activationFnName'])), 'activationFnName', 'silu or swish');
  const [layers, headSize, groups] = ['numTransformerLayers', 'headDim', 'numGqaGroups'].map((name) => settings.number(name)) as [
    number,
    number,
    number,
  ];
  const rows = (key: string): number[] => Array.from({ length: layers }, (_, i) => shapes.get(`layers.${i}.${key}.weight`)?.[0] ?? 0);
  const kvHeads = rows('attn.qkv_proj').map((size) => size / headSize / (groups + 2));
  return {
    block_count: whole(layers),
    context_length: whole(settings.number('maxContextLength')),
    embedding_length: whole(settings.number('modelDim')),
    feed_forward_length: whole(rows('ffn.proj_1').map((size) => size / 2)),
    'attention.head_count': whole(kvHeads.map((count) => count * groups)),
    'attention.head_count_kv': whole(kvHeads),
    'attention.key_length': whole(headSize),
    'attention.value_length': whole(headSize),
    'attention.layer_norm_rms_epsilon': float(1e-6),
    'rope.freq_base': float(settings.number('ropeFreqConstant')),
    'rope.dimension_count': whole(headSize),
    vocab_size: whole(settings.number('vocabSize')),
  };
}

/** OpenELM's tensors: gate and up projection, which it keeps in one, are two. */
export function openElmTensors({ shapes, keyOf }: LanguageWeights): Made[] {
  return [...shapes].flatMap(([key, shape]): Made[] => {
    const [, layer, part = ''] = /^(?:layers\.(\d+)\.)?(.+)\.weight$/.exec(key) ?? [];
    const prefix = layer === undefined ? '' : `blk.${layer}.`;
    const keys = [keyOf(key)];
    if (part === 'ffn.proj_1') {
      const [rows = 0, ...rest] = shape;
      const half = (from: number) => (weight: Tensor) => weight.narrow(0, from, rows / 2);
      return [
        { name: `${prefix}ffn_gate.weight`, keys, shape: [rows / 2, ...rest], make: half(0) },
        { name: `${prefix}ffn_up.weight`, keys, shape: [rows / 2, ...rest], make: half(rows / 2) },
      ];
    }
    const name = names[part];
    if (name === undefined) throw new ConfigError(`gguf: no name for "${key}"`);
    return [{ name: `${prefix}${name}.weight`, keys, shape }];
  });
}
