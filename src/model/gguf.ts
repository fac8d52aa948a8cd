import { CheckpointError } from '../errors.ts';
import { dtypeBytes } from '../tensor/dtype.ts';
import { type GgufFile, openGguf } from '../tensor/gguf.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Json } from './part.ts';
import { pick } from './registry.ts';

/** Metadata of the file's architecture, without its prefix: `block_count` for `llama.block_count`. */
class Settings {
  readonly file: GgufFile;
  readonly #architecture: string;

  constructor(file: GgufFile, architecture: string) {
    this.file = file;
    this.#architecture = architecture;
  }

  /** A number, or undefined where the file has none. Throws CheckpointError for anything else. */
  number(key: string): number | undefined {
    const name = `${this.#architecture}.${key}`;
    const value = this.file.metadata.get(name);
    if (value === undefined || typeof value === 'number') return value;
    throw new CheckpointError(`${this.file.path}: ${name} is not one number`, { hint: 'layers that differ in size are not read' });
  }

  text(key: string): string | undefined {
    const value = this.file.metadata.get(`${this.#architecture}.${key}`);
    return typeof value === 'string' ? value : undefined;
  }

  has(tensor: string): boolean {
    return this.file.names.includes(tensor);
  }

  /** The values of a small tensor. */
  values(tensor: string): number[] {
    using _scope = new Scope();
    return Array.from(this.file.tensor(tensor).cast('float32').toArray() as Float32Array);
  }
}

/** How an architecture's file is read. */
interface Architecture {
  /** `model_type` in Hugging Face's config.json. */
  readonly modelType: string;
  /** Fields of config.json beside those that all have. */
  readonly fields: (settings: Settings) => Json;
  /** Hugging Face's spelling of what stands in a layer, where it is not the usual one. */
  readonly keys?: Readonly<Record<string, string>>;
  /** Undoes what llama.cpp's converter did to a weight of this key. */
  readonly mend?: (weight: Tensor, key: string, config: Json) => Tensor;
}

const usualKeys: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const headNorms: Readonly<Record<string, string>> = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' };

/** Tensors that are settings. */
const settingTensors = new Set(['rope_freqs.weight', 'rope_factors_short.weight', 'rope_factors_long.weight']);

/** Metadata are float32: 9.999999747378752e-6 was 1e-5. */
const decimal = (value: number | undefined): number | undefined => (value === undefined ? undefined : Number(value.toPrecision(7)));

/** The settings of Llama 3.1 and later; files have what each frequency is divided by, and these were never others. */
const llama3 = { rope_type: 'llama3', low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/** The settings of `llama3` scaling. */
interface Llama3Scaling {
  readonly factor: number;
  readonly low: number;
  readonly high: number;
  readonly original: number;
}

/** What `llama3` scaling divides each of the `count` frequencies of a head by. */
export function llama3Divisors({ factor, low, high, original }: Llama3Scaling, theta: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const turns = original / (2 * Math.PI * theta ** (i / count));
    const smooth = Math.min(Math.max((turns - low) / (high - low), 0), 1);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

function ropeOf(settings: Settings): Json {
  const { path } = settings.file;
  const theta = decimal(settings.number('rope.freq_base'));
  const type = settings.text('rope.scaling.type') ?? 'none';
  if (settings.has('rope_freqs.weight')) {
    const divisors = settings.values('rope_freqs.weight');
    const factor = Math.max(...divisors);
    const { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = llama3;
    const expected = llama3Divisors({ factor, low, high, original }, theta ?? 10_000, divisors.length);
    if (divisors.every((divisor, i) => Math.abs(divisor / (expected[i] ?? 0) - 1) < 1e-3))
      return { rope_theta: theta, rope_scaling: { ...llama3, factor } };
    throw new CheckpointError(`${path}: rope_freqs.weight scales rotary frequencies in another way than Llama 3 does`, {
      hint: 'open the model from its safetensors folder',
    });
  }
  if (type === 'none') return { rope_theta: theta };
  if (type === 'linear')
    return { rope_theta: theta, rope_scaling: { rope_type: type, factor: decimal(settings.number('rope.scaling.factor')) } };
  throw new CheckpointError(`${path}: rotary positions scaled by "${type}" are not read`, {
    hint: 'none, linear, and that of Llama 3 and Phi-3 are read',
  });
}

/** Rows of queries and keys stand in the order of pairs (0, 1), (2, 3), …; here the halves of a head are paired. */
function unpairRows(weight: Tensor, heads: number): Tensor {
  const [rows = 0, ...rest] = weight.shape;
  return weight
    .view(heads, rows / heads / 2, 2, ...rest)
    .transpose(1, 2)
    .reshape(rows, ...rest);
}

const architectures: Readonly<Record<string, Architecture>> = {
  llama: {
    modelType: 'llama',
    fields: (settings) => ({
      ...ropeOf(settings),
      head_dim: settings.number('attention.key_length') ?? settings.number('rope.dimension_count'),
      attention_bias: settings.has('blk.0.attn_q.bias'),
      mlp_bias: settings.has('blk.0.ffn_up.bias'),
    }),
    mend: (weight, key, config) => {
      if (/\.q_proj\./.test(key)) return unpairRows(weight, Number(config['num_attention_heads']));
      if (/\.k_proj\./.test(key)) return unpairRows(weight, Number(config['num_key_value_heads']));
      return weight;
    },
  },
  qwen2: { modelType: 'qwen2', fields: ropeOf },
  qwen3: {
    modelType: 'qwen3',
    fields: (settings) => ({ ...ropeOf(settings), head_dim: settings.number('attention.key_length') }),
    keys: headNorms,
  },
  gemma3: {
    modelType: 'gemma3_text',
    fields: (settings) => {
      const { rope_theta, rope_scaling } = ropeOf(settings);
      const layers = settings.number('block_count');
      const width = settings.number('embedding_length') ?? 0;
      const head_dim = settings.number('attention.key_length');
      return {
        rope_theta: rope_theta ?? 1_000_000,
        rope_scaling,
        rope_local_base_freq: decimal(settings.number('rope.freq_base_swa')),
        head_dim,
        // the file does not say it: every size divides by the root of a head, but for the one of 62 layers
        query_pre_attn_scalar: layers === 62 ? width / (settings.number('attention.head_count') ?? 1) : head_dim,
        sliding_window: settings.number('attention.sliding_window'),
        sliding_window_pattern: settings.number('attention.sliding_window_pattern'),
        final_logit_softcapping: decimal(settings.number('final_logit_softcapping')),
      };
    },
    keys: {
      ...headNorms,
      post_attention_norm: 'post_attention_layernorm',
      ffn_norm: 'pre_feedforward_layernorm',
      post_ffw_norm: 'post_feedforward_layernorm',
    },
    // norms multiply by 1 + weight, and the file has the sum
    mend: (weight, key) => (/norm\.weight$/.test(key) ? weight.sub(1) : weight),
  },
  phi3: {
    modelType: 'phi3',
    fields: (settings) => {
      const head = (settings.number('embedding_length') ?? 0) / (settings.number('attention.head_count') ?? 1);
      const rope_theta = decimal(settings.number('rope.freq_base'));
      return {
        rope_theta,
        original_max_position_embeddings: settings.number('rope.scaling.original_context_length'),
        partial_rotary_factor: (settings.number('rope.dimension_count') ?? head) / head,
        sliding_window: settings.number('attention.sliding_window') || undefined,
        ...(settings.has('rope_factors_long.weight') && {
          rope_scaling: {
            rope_type: 'longrope',
            short_factor: settings.values('rope_factors_short.weight'),
            long_factor: settings.values('rope_factors_long.weight'),
            attention_factor: settings.number('rope.scaling.attn_factor'),
          },
        }),
      };
    },
    keys: { attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' },
  },
};

function architectureOf(file: GgufFile): { architecture: Architecture; settings: Settings } {
  const name = String(file.metadata.get('general.architecture'));
  return { architecture: pick(architectures, 'architecture', name, { file: file.path }), settings: new Settings(file, name) };
}

/** What Hugging Face's config.json would say of a GGUF file. Throws ConfigError for an architecture that is not known, CheckpointError for settings that are not read. */
export function ggufConfig(file: GgufFile): Json {
  const { architecture, settings } = architectureOf(file);
  const { metadata } = file;
  const embeddings = file.names.includes('token_embd.weight') ? file.shape('token_embd.weight') : [];
  const heads = settings.number('attention.head_count');
  const fields = {
    model_type: architecture.modelType,
    vocab_size: embeddings[0],
    hidden_size: settings.number('embedding_length'),
    intermediate_size: settings.number('feed_forward_length'),
    num_hidden_layers: settings.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: settings.number('attention.head_count_kv') ?? heads,
    max_position_embeddings: settings.number('context_length'),
    rms_norm_eps: decimal(settings.number('attention.layer_norm_rms_epsilon')),
    tie_word_embeddings: !settings.has('output.weight'),
    bos_token_id: metadata.get('tokenizer.ggml.bos_token_id'),
    eos_token_id: metadata.get('tokenizer.ggml.eos_token_id'),
    pad_token_id: metadata.get('tokenizer.ggml.padding_token_id'),
    ...architecture.fields(settings),
  };
  const required = ['vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads'] as const;
  const missing = required.filter((field) => fields[field] === undefined);
  if (missing.length > 0) throw new CheckpointError(`${file.path}: the file does not say ${missing.join(', ')}`);
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function keyOf(name: string, keys: Readonly<Record<string, string>>): string {
  const whole: Readonly<Record<string, string>> = { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' };
  const [, layer, tensor = '', kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const key = layer === undefined ? whole[tensor] : keys[tensor];
  if (key === undefined) return name; // loading reports it
  return `${layer === undefined ? '' : `model.layers.${layer}.`}${key}.${kind}`;
}

/**
 * The weights of a GGUF file by Hugging Face's keys, all in one dtype: that of the file's widest matrix, quantised ones being float32. Nothing is
 * read before its tensor is asked for. Throws CheckpointError or ConfigError.
 */
export function openGgufWeights(path: string): WeightSource {
  const file = openGguf(path);
  const { architecture } = architectureOf(file);
  const config = ggufConfig(file);
  const keys = { ...usualKeys, ...architecture.keys };
  const names = new Map(file.names.filter((name) => !settingTensors.has(name)).map((name) => [keyOf(name, keys), name]));
  const matrices = file.names.filter((name) => file.shape(name).length > 1).map((name) => file.dtype(name));
  const [dtype = 'float32'] = [...new Set(matrices)].sort((a, b) => dtypeBytes(b) - dtypeBytes(a));
  const find = (key: string): string => {
    const name = names.get(key);
    if (name === undefined) throw new CheckpointError(`${path}: no tensor "${key}"`);
    return name;
  };
  return {
    path,
    names: [...names.keys()],
    shape: (key) => file.shape(find(key)),
    dtype: () => dtype,
    tensor: (key, memory) => {
      using scope = new Scope();
      const name = find(key);
      const asStored = file.dtype(name) === dtype && !architecture.mend;
      const stored = file.tensor(name, memory && !asStored ? 'own' : memory);
      const mended = architecture.mend?.(stored, key, config) ?? stored;
      return scope.keep(mended.dtype === dtype ? mended : mended.cast(dtype));
    },
  };
}
