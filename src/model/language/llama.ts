import { z } from 'zod';
import { activationNames, gates } from '../../nn/activation.ts';
import { packedAttention, positions, type Sequences } from '../../nn/attention.ts';
import { Embedding } from '../../nn/embedding.ts';
import { normal } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { runLayers } from '../../nn/layers.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { RmsNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Json, part } from '../part.ts';
import { LanguageModel } from './language-model.ts';

const ropeTheta = z.number().positive().default(10_000);

/** Settings of rotary positions, as config.json's `rope_parameters` has them. */
export const RopeParameters = z.discriminatedUnion('ropeType', [
  z.strictObject({ ropeType: z.literal('default'), ropeTheta }),
  z.strictObject({ ropeType: z.literal('linear'), ropeTheta, factor: z.number().positive() }),
  z.strictObject({
    ropeType: z.literal('llama3'),
    ropeTheta,
    factor: z.number().positive(),
    lowFreqFactor: z.number().positive(),
    highFreqFactor: z.number().positive(),
    originalMaxPositionEmbeddings: z.int().positive(),
  }),
]);

/** Settings of a Llama; the defaults are those of transformers' LlamaConfig. */
export const LlamaConfig = z
  .strictObject({
    type: z.literal('llama'),
    vocabSize: z.int().positive().default(32_000),
    hiddenSize: z.int().positive().default(4096),
    intermediateSize: z.int().positive().default(11_008),
    numHiddenLayers: z.int().positive().default(32),
    numAttentionHeads: z.int().positive().default(32),
    /** As many as attention heads unless said otherwise. */
    numKeyValueHeads: z.int().positive().optional(),
    /** hiddenSize / numAttentionHeads unless said otherwise. */
    headDim: z.int().positive().multipleOf(2).optional(),
    hiddenAct: z.enum(activationNames).default('silu'),
    maxPositionEmbeddings: z.int().positive().default(2048),
    rmsNormEps: z.number().positive().default(1e-6),
    ropeParameters: RopeParameters.default({ ropeType: 'default', ropeTheta: 10_000 }),
    attentionBias: z.boolean().default(false),
    mlpBias: z.boolean().default(false),
    tieWordEmbeddings: z.boolean().default(false),
    /** Standard deviation of the starting weights. */
    initializerRange: z.number().positive().default(0.02),
    bosTokenId: z.int().optional(),
    eosTokenId: z.union([z.int(), z.array(z.int())]).optional(),
    padTokenId: z.int().optional(),
  })
  .refine((c) => c.headDim !== undefined || c.hiddenSize % (2 * c.numAttentionHeads) === 0, {
    error: 'hiddenSize must divide into numAttentionHeads heads of an even size, unless headDim is given',
  })
  .refine((c) => c.numAttentionHeads % (c.numKeyValueHeads ?? c.numAttentionHeads) === 0, {
    error: 'numAttentionHeads must be a multiple of numKeyValueHeads',
  });
export type LlamaConfig = z.output<typeof LlamaConfig>;

interface HeadSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
}

function headSizes({ hiddenSize, numAttentionHeads, numKeyValueHeads, headDim }: LlamaConfig): HeadSizes {
  return { heads: numAttentionHeads, kvHeads: numKeyValueHeads ?? numAttentionHeads, headSize: headDim ?? hiddenSize / numAttentionHeads };
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class LlamaAttention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly #sizes: HeadSizes;

  constructor(config: LlamaConfig) {
    super();
    const { hiddenSize, attentionBias: bias } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { bias, init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.oProj = new Linear(heads * headSize, hiddenSize, { bias, init });
    this.#sizes = { heads, kvHeads, headSize };
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const q = rotate(this.qProj.forward(x).view(-1, heads, headSize), angles); // [N, H, D]
    const k = rotate(this.kProj.forward(x).view(-1, kvHeads, headSize), angles); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    return this.oProj.forward(packedAttention(q, k, v, sequences, { layer }));
  }
}

class LlamaMlp extends Module {
  readonly gateProj: Linear;
  readonly upProj: Linear;
  readonly downProj: Linear;
  readonly #gate: (gate: Tensor, up: Tensor) => Tensor;

  constructor({ hiddenSize, intermediateSize, mlpBias: bias, hiddenAct, initializerRange }: LlamaConfig) {
    super();
    const init = normal(initializerRange);
    this.gateProj = new Linear(hiddenSize, intermediateSize, { bias, init });
    this.upProj = new Linear(hiddenSize, intermediateSize, { bias, init });
    this.downProj = new Linear(intermediateSize, hiddenSize, { bias, init });
    this.#gate = gates(hiddenAct);
  }

  forward(x: Tensor): Tensor {
    return this.downProj.forward(this.#gate(this.gateProj.forward(x), this.upProj.forward(x)));
  }
}

class LlamaBlock extends Module {
  readonly selfAttn: LlamaAttention;
  readonly mlp: LlamaMlp;
  readonly inputLayernorm: RmsNorm;
  readonly postAttentionLayernorm: RmsNorm;

  constructor(config: LlamaConfig) {
    super();
    this.selfAttn = new LlamaAttention(config);
    this.mlp = new LlamaMlp(config);
    this.inputLayernorm = new RmsNorm(config.hiddenSize, { eps: config.rmsNormEps });
    this.postAttentionLayernorm = new RmsNorm(config.hiddenSize, { eps: config.rmsNormEps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = x.add(this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer));
    return h.add(this.mlp.forward(this.postAttentionLayernorm.forward(h)));
  }
}

/** Llama, and what shares its architecture: TinyLlama, SmolLM2. Touvron et al. 2023, arXiv:2302.13971. */
export class Llama extends LanguageModel {
  readonly embedTokens: Embedding;
  readonly layers: readonly LlamaBlock[];
  readonly norm: RmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;

  constructor(config: LlamaConfig) {
    super();
    const init = normal(config.initializerRange);
    this.hiddenSize = config.hiddenSize;
    this.vocabSize = config.vocabSize;
    this.embedTokens = new Embedding(config.vocabSize, config.hiddenSize, { init });
    this.layers = Array.from({ length: config.numHiddenLayers }, () => new LlamaBlock(config));
    this.norm = new RmsNorm(config.hiddenSize, { eps: config.rmsNormEps });
    this.lmHead = config.tieWordEmbeddings ? undefined : new Linear(config.hiddenSize, config.vocabSize, { bias: false, init });
    this.#heads = headSizes(config);
    this.#rotary = new Rotary(this.#heads.headSize, { theta: config.ropeParameters.ropeTheta, scaling: config.ropeParameters });
  }

  embed(ids: Tensor): Tensor {
    return this.embedTokens.forward(ids);
  }

  forward(x: Tensor, sequences: Sequences): Tensor {
    sizes(x, 'N C', { N: sequences.lengths.reduce((sum, length) => sum + length, 0), C: this.hiddenSize });
    const angles = this.#rotary.at(positions(sequences), x);
    const hidden = runLayers(this.layers, x, (layer, h, index) => layer.forward(h, angles, sequences, index));
    for (const [index, cache] of (sequences.caches ?? []).entries()) cache.advance(sequences.lengths[index] ?? 0);
    return this.norm.forward(hidden);
  }

  get headWeight(): Tensor {
    return (this.lmHead ?? this.embedTokens).weight;
  }

  get headBias(): undefined {
    return undefined;
  }

  createCache(options: { capacity?: number } = {}): KvCache {
    const { dtype, device } = this.embedTokens.weight;
    const { kvHeads, headSize } = this.#heads;
    return new KvCache({ layers: this.layers.length, kvHeads, headSize, dtype, device, ...options });
  }
}

/** transformers before 5 wrote `rope_theta` and `rope_scaling` (with `type` for `rope_type`) beside each other. */
function readRope({ rope_theta, rope_scaling, rope_parameters, ...json }: Json): Json {
  const { type, ...found } = { ...((rope_scaling ?? rope_parameters ?? {}) as Json) };
  const rope_type = found['rope_type'] ?? type ?? 'default';
  const theta = found['rope_theta'] ?? rope_theta;
  const length = rope_type === 'llama3' ? { original_max_position_embeddings: json['max_position_embeddings'] } : {};
  return { ...json, rope_parameters: { ...length, ...found, rope_type, ...(theta === undefined ? {} : { rope_theta: theta }) } };
}

/** Both spellings go out, so that transformers before and since 5 read the same. */
function writeRope({ rope_parameters, ...json }: Json): Json {
  const { rope_theta, ...scaling } = rope_parameters as Json;
  return {
    architectures: ['LlamaForCausalLM'],
    ...json,
    rope_parameters,
    rope_theta,
    rope_scaling: scaling['rope_type'] === 'default' ? null : scaling,
  };
}

/** The registry entry of Llama. */
export const llama = part({
  modelType: 'llama',
  schema: LlamaConfig,
  make: Llama,
  read: readRope,
  write: writeRope,
  inTransformers: () => true,
});
