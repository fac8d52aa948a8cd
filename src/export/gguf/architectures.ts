import { rotatedSize } from '../../model/language/rope-parameters.ts';
import { type HeadFields, headSizes } from '../../model/language/shape.ts';
import type { PartConfig } from '../../model/part.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { pairRows, plainRope, type Rope, ropeDivisors, ropeFields } from './rope.ts';
import { type Fields, flag, float, type PartSettings, text, whole } from './settings.ts';

/** How an architecture is written for llama.cpp. */
export interface Architecture {
  /** llama.cpp's name. */
  readonly name: string;
  /** Metadata beside what all have. Throws ConfigError for settings that llama.cpp does not compute. */
  readonly fields: (settings: PartSettings) => Fields;
  /** GGUF's names of what stands in a layer, where they are not the usual ones. */
  readonly names?: Readonly<Record<string, string>>;
  /** What becomes of a weight of this key, relative to the language model. */
  readonly mend?: (weight: Tensor, key: string, config: PartConfig) => Tensor;
  /** Small tensors that are settings. */
  readonly settingTensors?: (settings: PartSettings) => Readonly<Record<string, readonly number[] | undefined>>;
  /** Whether the file needs a head where the model shares the embeddings. */
  readonly needsHead?: true;
}

const heads = (config: PartConfig): ReturnType<typeof headSizes> => headSizes(config as unknown as HeadFields);
const rope = ({ config }: PartSettings): Rope => config['ropeParameters'] as Rope;

/** Sizes under the names that nearly all language models have. */
function sizes(settings: PartSettings): Fields {
  const { heads: count, kvHeads } = heads(settings.config);
  return {
    block_count: whole(settings.number('numHiddenLayers')),
    context_length: whole(settings.number('maxPositionEmbeddings')),
    embedding_length: whole(settings.number('hiddenSize')),
    feed_forward_length: whole(settings.number('intermediateSize')),
    'attention.head_count': whole(count),
    'attention.head_count_kv': whole(kvHeads),
    vocab_size: whole(settings.number('vocabSize')),
  };
}

const rmsEps = (settings: PartSettings): Fields => ({ 'attention.layer_norm_rms_epsilon': float(settings.number('rmsNormEps')) });
const layerNormEps = (settings: PartSettings): Fields => ({ 'attention.layer_norm_epsilon': float(settings.number('layerNormEps')) });

function headWidth({ config }: PartSettings): Fields {
  const { headSize } = heads(config);
  return { 'attention.key_length': whole(headSize), 'attention.value_length': whole(headSize) };
}

function activation(settings: PartSettings, names: readonly string[], setting = 'hiddenAct'): void {
  settings.demand(names.includes(String(settings.config[setting])), setting, names.join(' or '));
}

const silu = ['silu', 'swish'];
const tanhGelu = ['gelu_pytorch_tanh', 'gelu_new'];

function noWindow(settings: PartSettings): void {
  settings.demand(settings.config['useSlidingWindow'] !== true, 'useSlidingWindow', 'no windows');
}

/** Llama's queries and keys in the order in which llama.cpp rotates them. */
function paired(weight: Tensor, key: string, config: PartConfig): Tensor {
  if (/\.q_proj\./.test(key)) return pairRows(weight, heads(config).heads);
  return /\.k_proj\./.test(key) ? pairRows(weight, heads(config).kvHeads) : weight;
}

const frequencies = (settings: PartSettings): Readonly<Record<string, readonly number[] | undefined>> => ({
  'rope_freqs.weight': ropeDivisors(rope(settings), heads(settings.config).headSize),
});

/** Norms multiply by 1 + weight; the file has the sum. */
const offsetNorms = (weight: Tensor, key: string): Tensor => (/norm\.weight$/.test(key) ? weight.cast('float32').add(1) : weight);

const gemmaNorms = {
  post_attention_layernorm: 'post_attention_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
};

/** Throws ConfigError unless scores are divided by what llama.cpp takes: of two sizes with `wide` layers it knows better. */
function usualScale(settings: PartSettings, wide: number): void {
  const { heads: count, headSize } = heads(settings.config);
  const expected = settings.number('numHiddenLayers') === wide ? Math.floor(settings.number('hiddenSize') / count) : headSize;
  settings.demand(settings.number('queryPreAttnScalar') === expected, 'queryPreAttnScalar', `scores over the root of ${expected}`);
}

/** Whether a layer has a window, where settings say it one by one. */
const slides = (settings: PartSettings, usual: (layer: number) => boolean): boolean[] => {
  const types = settings.config['layerTypes'] as readonly string[] | undefined;
  const count = settings.number('numHiddenLayers');
  return Array.from({ length: count }, (_, layer) => (types ? types[layer] === 'sliding_attention' : usual(layer)));
};

/** So many layers from one without a window to the next; undefined where they are not so regular. */
function period(windows: readonly boolean[]): number | undefined {
  const found = windows.indexOf(false);
  const length = found < 0 ? windows.length + 1 : found + 1;
  return windows.every((window, layer) => window === ((layer + 1) % length !== 0)) ? length : undefined;
}

function longRope(settings: PartSettings): Fields {
  const found = settings.config['ropeParameters'] as { ropeType: string; ropeTheta: number; factor?: number; attentionFactor?: number };
  const original = settings.number('originalMaxPositionEmbeddings');
  const common = { 'rope.freq_base': float(found.ropeTheta), 'rope.scaling.original_context_length': whole(original) };
  if (found.ropeType === 'default') return common;
  const factor = found.factor ?? settings.number('maxPositionEmbeddings') / original;
  const grows = found.attentionFactor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
  return { ...common, 'rope.scaling.type': text('longrope'), 'rope.scaling.attn_factor': float(grows) };
}

const rotated = (settings: PartSettings): Fields => ({
  'rope.dimension_count': whole(rotatedSize(heads(settings.config).headSize, settings.number('partialRotaryFactor'))),
});

/** Every language model that llama.cpp has, by this package's names. */
export const architectures: Readonly<Record<string, Architecture>> = {
  llama: {
    name: 'llama',
    fields: (settings) => {
      activation(settings, silu);
      const { headSize } = heads(settings.config);
      return {
        ...sizes(settings),
        ...rmsEps(settings),
        ...ropeFields(rope(settings)),
        ...headWidth(settings),
        'rope.dimension_count': whole(headSize),
      };
    },
    mend: paired,
    settingTensors: frequencies,
  },
  smollm3: {
    name: 'smollm3',
    fields: (settings) => {
      activation(settings, silu);
      noWindow(settings);
      for (const bias of ['attentionBias', 'mlpBias']) settings.demand(settings.config[bias] !== true, bias, 'no such biases');
      const types = settings.config['noRopeLayers'] as readonly number[] | undefined;
      const usual = types ? types.every((one, i) => one === Number((i + 1) % 4 !== 0)) : settings.number('noRopeLayerInterval') === 4;
      settings.demand(usual, types ? 'noRopeLayers' : 'noRopeLayerInterval', 'every fourth layer without rotary positions');
      const { headSize } = heads(settings.config);
      return { ...sizes(settings), ...rmsEps(settings), ...plainRope(rope(settings), 'smollm3'), 'rope.dimension_count': whole(headSize) };
    },
    mend: paired,
  },
  qwen2: {
    name: 'qwen2',
    fields: (settings) => {
      activation(settings, silu);
      noWindow(settings);
      return { ...sizes(settings), ...rmsEps(settings), ...plainRope(rope(settings), 'qwen2') };
    },
  },
  qwen3: {
    name: 'qwen3',
    fields: (settings) => {
      activation(settings, silu);
      noWindow(settings);
      settings.demand(settings.config['attentionBias'] !== true, 'attentionBias', 'no such biases');
      return { ...sizes(settings), ...rmsEps(settings), ...plainRope(rope(settings), 'qwen3'), ...headWidth(settings) };
    },
  },
  gemma: {
    name: 'gemma',
    fields: (settings) => {
      activation(settings, tanhGelu);
      settings.demand(settings.config['attentionBias'] !== true, 'attentionBias', 'no such biases');
      settings.demand(settings.config['tieWordEmbeddings'] === true, 'tieWordEmbeddings', 'a head that is the embeddings');
      return { ...sizes(settings), ...rmsEps(settings), ...plainRope(rope(settings), 'gemma'), ...headWidth(settings) };
    },
    mend: offsetNorms,
  },
  gemma2: {
    name: 'gemma2',
    fields: (settings) => {
      activation(settings, tanhGelu, 'hiddenActivation');
      usualScale(settings, 46);
      settings.demand(settings.config['attentionBias'] !== true, 'attentionBias', 'no such biases');
      settings.demand(settings.config['tieWordEmbeddings'] === true, 'tieWordEmbeddings', 'a head that is the embeddings');
      settings.demand(
        slides(settings, (layer) => layer % 2 === 0).every((one, i) => one === (i % 2 === 0)),
        'layerTypes',
        'windows in every other layer',
      );
      for (const cap of ['attnLogitSoftcapping', 'finalLogitSoftcapping'])
        settings.demand(settings.config[cap] !== false, cap, 'both caps');
      return {
        ...sizes(settings),
        ...rmsEps(settings),
        ...plainRope(rope(settings), 'gemma2'),
        ...headWidth(settings),
        attn_logit_softcapping: float(settings.number('attnLogitSoftcapping')),
        final_logit_softcapping: float(settings.number('finalLogitSoftcapping')),
        'attention.sliding_window': whole(settings.number('slidingWindow')),
      };
    },
    names: gemmaNorms,
    mend: offsetNorms,
  },
  gemma3_text: {
    name: 'gemma3',
    fields: (settings) => {
      activation(settings, tanhGelu, 'hiddenActivation');
      usualScale(settings, 62);
      settings.demand(settings.config['attentionBias'] !== true, 'attentionBias', 'no such biases');
      const { fullAttention, slidingAttention } = settings.config['ropeParameters'] as Record<'fullAttention' | 'slidingAttention', Rope>;
      settings.demand(slidingAttention.ropeType === 'default', 'ropeParameters', 'no scaling in layers with a window');
      const every = settings.number('slidingWindowPattern');
      const pattern = period(slides(settings, (layer) => (layer + 1) % every !== 0));
      settings.demand(pattern !== undefined, 'layerTypes', 'layers without a window at regular distances');
      const cap = settings.optional('finalLogitSoftcapping');
      return {
        ...sizes(settings),
        ...rmsEps(settings),
        ...plainRope(fullAttention, 'gemma3'),
        ...headWidth(settings),
        'rope.freq_base_swa': float(slidingAttention.ropeTheta),
        'attention.sliding_window': whole(settings.number('slidingWindow')),
        ...(pattern !== 6 && { 'attention.sliding_window_pattern': whole(pattern ?? 6) }),
        ...(cap !== undefined && { final_logit_softcapping: float(cap) }),
      };
    },
    names: gemmaNorms,
    mend: offsetNorms,
  },
  phi: {
    name: 'phi2',
    fields: (settings) => {
      activation(settings, tanhGelu);
      settings.demand(settings.config['qkLayernorm'] !== true, 'qkLayernorm', 'no norms of heads');
      settings.demand(settings.config['tieWordEmbeddings'] !== true, 'tieWordEmbeddings', 'a head of its own');
      return { ...sizes(settings), ...layerNormEps(settings), ...plainRope(rope(settings), 'phi2'), ...rotated(settings) };
    },
  },
  phi3: {
    name: 'phi3',
    fields: (settings) => {
      activation(settings, silu);
      return {
        ...sizes(settings),
        ...rmsEps(settings),
        ...longRope(settings),
        ...rotated(settings),
        'attention.sliding_window': whole(settings.optional('slidingWindow') ?? 0),
      };
    },
    settingTensors: ({ config }) => {
      const { shortFactor, longFactor } = config['ropeParameters'] as Record<'shortFactor' | 'longFactor', readonly number[] | undefined>;
      return { 'rope_factors_long.weight': longFactor, 'rope_factors_short.weight': shortFactor };
    },
  },
  stablelm: {
    name: 'stablelm',
    fields: (settings) => {
      activation(settings, silu);
      return {
        ...sizes(settings),
        ...layerNormEps(settings),
        ...plainRope(rope(settings), 'stablelm'),
        ...rotated(settings),
        use_parallel_residual: flag(settings.config['useParallelResidual'] === true),
      };
    },
    needsHead: true,
  },
};
