import { z } from 'zod';
import { packedAttention, positions, type Sequences, wantedRows } from '../../nn/attention.ts';
import { ScaledEmbedding } from '../../nn/embedding.ts';
import { GatedMlp } from '../../nn/gated-mlp.ts';
import { normal } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { OffsetRmsNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Json, part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { readRope, ropeParameters, writeRope } from './rope-parameters.ts';
import { checkHeads, checkLayerTypes, type HeadSizes, headSizes, LayerType, shape, tokenIds } from './shape.ts';

/** Settings of the language model of a Gemma 3; the defaults are those of transformers' Gemma3TextConfig. */
export const Gemma3Config = z
  .strictObject({
    type: z.literal('gemma3_text'),
    vocabSize: shape.vocabSize.default(262_208),
    hiddenSize: shape.hiddenSize.default(2304),
    intermediateSize: shape.intermediateSize.default(9216),
    numHiddenLayers: shape.numHiddenLayers.default(26),
    numAttentionHeads: shape.numAttentionHeads.default(8),
    numKeyValueHeads: shape.numKeyValueHeads.default(4),
    headDim: shape.headDim.default(256),
    hiddenActivation: shape.hiddenAct.default('gelu_pytorch_tanh'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(131_072),
    rmsNormEps: shape.eps.default(1e-6),
    /** Layers with a window have a base of their own. */
    ropeParameters: z.strictObject({ fullAttention: ropeParameters(1_000_000), slidingAttention: ropeParameters() }).prefault({}),
    attentionBias: z.boolean().default(false),
    /** Embedding models look both ways; these do not. */
    useBidirectionalAttention: z.literal(false).default(false),
    /** Scores are divided by its root. */
    queryPreAttnScalar: z.number().positive().default(256),
    slidingWindow: z.int().positive().default(4096),
    /** So many layers from one without a window to the next, unless `layerTypes` says it one by one. */
    slidingWindowPattern: z.int().positive().default(6),
    layerTypes: z.array(LayerType).optional(),
    finalLogitSoftcapping: z.number().positive().optional(),
    tieWordEmbeddings: z.boolean().default(true),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkLayerTypes);
export type Gemma3Config = z.output<typeof Gemma3Config>;

function slides({ layerTypes, slidingWindowPattern }: Gemma3Config, layer: number): boolean {
  return layerTypes ? layerTypes[layer] === 'sliding_attention' : (layer + 1) % slidingWindowPattern !== 0;
}

/** The angles of both kinds of layers. */
interface Angles {
  readonly full: RotaryAngles;
  readonly sliding: RotaryAngles;
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class Gemma3Attention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly qNorm: OffsetRmsNorm;
  readonly kNorm: OffsetRmsNorm;
  readonly #sizes: HeadSizes;
  readonly #scale: number;
  readonly #window: number | undefined;

  constructor(config: Gemma3Config, layer: number) {
    super();
    const { hiddenSize, attentionBias: bias, rmsNormEps: eps } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { bias, init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.oProj = new Linear(heads * headSize, hiddenSize, { bias, init });
    this.qNorm = new OffsetRmsNorm(headSize, { eps });
    this.kNorm = new OffsetRmsNorm(headSize, { eps });
    this.#sizes = { heads, kvHeads, headSize };
    this.#scale = config.queryPreAttnScalar ** -0.5;
    this.#window = slides(config, layer) ? config.slidingWindow : undefined;
  }

  forward(x: Tensor, angles: Angles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const own = this.#window === undefined ? angles.full : angles.sliding;
    const q = rotate(this.qNorm.forward(this.qProj.forward(x).view(-1, heads, headSize)), own); // [N, H, D]
    const k = rotate(this.kNorm.forward(this.kProj.forward(x).view(-1, kvHeads, headSize)), own); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    return this.oProj.forward(packedAttention(q, k, v, sequences, { layer, scale: this.#scale, window: this.#window }));
  }
}

/** Normalizes before and behind both attention and perceptron. */
class Gemma3Block extends Module {
  readonly selfAttn: Gemma3Attention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: OffsetRmsNorm;
  readonly postAttentionLayernorm: OffsetRmsNorm;
  readonly preFeedforwardLayernorm: OffsetRmsNorm;
  readonly postFeedforwardLayernorm: OffsetRmsNorm;

  constructor(config: Gemma3Config, layer: number) {
    super();
    const { hiddenSize, intermediateSize, hiddenActivation: activation, rmsNormEps: eps } = config;
    this.selfAttn = new Gemma3Attention(config, layer);
    this.mlp = new GatedMlp(hiddenSize, intermediateSize, { activation, init: normal(config.initializerRange) });
    this.inputLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.preFeedforwardLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.postFeedforwardLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: Angles, sequences: Sequences, layer: number): Tensor {
    const attended = this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer);
    const h = wantedRows(x, sequences).add(this.postAttentionLayernorm.forward(attended));
    return h.add(this.postFeedforwardLayernorm.forward(this.mlp.forward(this.preFeedforwardLayernorm.forward(h))));
  }
}

/** The language model of Gemma 3: mostly windows, two rotary bases, normalized queries and keys. Gemma Team 2025, arXiv:2503.19786. */
export class Gemma3 extends LanguageModel {
  readonly embedTokens: ScaledEmbedding;
  readonly layers: readonly Gemma3Block[];
  readonly norm: OffsetRmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: { readonly full: Rotary; readonly sliding: Rotary };
  readonly #logitCap: number | undefined;

  constructor(config: Gemma3Config) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new ScaledEmbedding(vocabSize, hiddenSize, { scale: Math.sqrt(hiddenSize), init });
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Gemma3Block(config, layer));
    this.norm = new OffsetRmsNorm(hiddenSize, { eps: config.rmsNormEps });
    this.lmHead = config.tieWordEmbeddings ? undefined : new Linear(hiddenSize, vocabSize, { bias: false, init });
    this.#heads = headSizes(config);
    const rotary = (scaling: typeof rope.fullAttention): Rotary => new Rotary(this.#heads.headSize, { theta: scaling.ropeTheta, scaling });
    this.#rotary = { full: rotary(rope.fullAttention), sliding: rotary(rope.slidingAttention) };
    this.#logitCap = config.finalLogitSoftcapping;
  }

  embed(ids: Tensor): Tensor {
    return this.embedTokens.forward(ids);
  }

  forward(x: Tensor, sequences: Sequences): Tensor {
    const at = positions(sequences);
    const angles = { full: this.#rotary.full.at(at, x), sliding: this.#rotary.sliding.at(at, x) };
    return this.norm.forward(this.run(this.layers, x, sequences, (layer, h, own, index) => layer.forward(h, angles, own, index)));
  }

  get headWeight(): Tensor {
    return (this.lmHead ?? this.embedTokens).weight;
  }

  override get logitCap(): number | undefined {
    return this.#logitCap;
  }

  createCache(options: { capacity?: number } = {}): KvCache {
    const { dtype, device } = this.embedTokens.weight;
    const { kvHeads, headSize } = this.#heads;
    return new KvCache({ layers: this.layers.length, kvHeads, headSize, dtype, device, ...options });
  }
}

/** transformers before 5 wrote `rope_theta` and `rope_scaling` for the layers without a window, `rope_local_base_freq` for the others. */
function readRopes({ rope_theta, rope_local_base_freq, rope_scaling, rope_parameters, ...json }: Json): Json {
  const { full_attention, sliding_attention } = { ...(rope_parameters as Record<string, Json | null> | null) };
  const { max_position_embeddings } = json;
  const one = (parameters: Json, theta: unknown): unknown =>
    readRope({ max_position_embeddings, rope_parameters: parameters, rope_theta: theta })['rope_parameters'];
  return {
    ...json,
    rope_parameters: {
      full_attention: one({ ...full_attention, ...(rope_scaling as Json | null) }, rope_theta),
      sliding_attention: one({ ...sliding_attention }, rope_local_base_freq),
    },
  };
}

function writeRopes({ rope_parameters, ...json }: Json): Json {
  const { full_attention, sliding_attention } = rope_parameters as Record<string, Json>;
  const { rope_theta, rope_scaling } = writeRope({ rope_parameters: full_attention });
  return { ...json, rope_parameters, rope_theta, rope_scaling, rope_local_base_freq: sliding_attention?.['rope_theta'] };
}

/** The registry entry of Gemma 3's language model. transformers' LLaVA leaves the soft cap of the logits out. */
export const gemma3Text = part({
  modelType: 'gemma3_text',
  schema: Gemma3Config,
  make: Gemma3,
  read: readRopes,
  write: (json) => ({ architectures: ['Gemma3ForCausalLM'], ...writeRopes(json) }),
  inTransformers: ({ finalLogitSoftcapping }) => finalLogitSoftcapping === undefined,
});
