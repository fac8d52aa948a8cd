import { z } from 'zod';
import { packedAttention, positions, type Scores, type Sequences, wantedRows } from '../../nn/attention.ts';
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

const softcapping = z.union([z.number().positive(), z.literal(false)]);

/** Settings of a Gemma 2; the defaults are those of transformers' Gemma2Config. */
export const Gemma2Config = z
  .strictObject({
    type: z.literal('gemma2'),
    vocabSize: shape.vocabSize.default(256_000),
    hiddenSize: shape.hiddenSize.default(2304),
    intermediateSize: shape.intermediateSize.default(9216),
    numHiddenLayers: shape.numHiddenLayers.default(26),
    numAttentionHeads: shape.numAttentionHeads.default(8),
    numKeyValueHeads: shape.numKeyValueHeads.default(4),
    headDim: shape.headDim.default(256),
    hiddenActivation: shape.hiddenAct.default('gelu_pytorch_tanh'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(8192),
    rmsNormEps: shape.eps.default(1e-6),
    ropeParameters: ropeParameters(),
    attentionBias: z.boolean().default(false),
    /** Embedding models look both ways; these do not. */
    useBidirectionalAttention: z.literal(false).default(false),
    /** Scores are divided by its root. */
    queryPreAttnScalar: z.number().positive().default(256),
    slidingWindow: z.int().positive().default(4096),
    /** In turns, a window first, unless said one by one. */
    layerTypes: z.array(LayerType).optional(),
    attnLogitSoftcapping: softcapping.default(50),
    finalLogitSoftcapping: softcapping.default(30),
    tieWordEmbeddings: z.boolean().default(true),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkLayerTypes);
export type Gemma2Config = z.output<typeof Gemma2Config>;

function scoresOf({ layerTypes, slidingWindow, queryPreAttnScalar, attnLogitSoftcapping }: Gemma2Config, layer: number): Scores {
  const slides = layerTypes ? layerTypes[layer] === 'sliding_attention' : layer % 2 === 0;
  return {
    scale: queryPreAttnScalar ** -0.5,
    window: slides ? slidingWindow : undefined,
    softcap: attnLogitSoftcapping || undefined,
  };
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class Gemma2Attention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly #sizes: HeadSizes;
  readonly #scores: Scores;

  constructor(config: Gemma2Config, layer: number) {
    super();
    const { hiddenSize, attentionBias: bias } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { bias, init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.oProj = new Linear(heads * headSize, hiddenSize, { bias, init });
    this.#sizes = { heads, kvHeads, headSize };
    this.#scores = scoresOf(config, layer);
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const q = rotate(this.qProj.forward(x).view(-1, heads, headSize), angles); // [N, H, D]
    const k = rotate(this.kProj.forward(x).view(-1, kvHeads, headSize), angles); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    return this.oProj.forward(packedAttention(q, k, v, sequences, { layer, ...this.#scores }));
  }
}

/** Normalizes before and behind both attention and perceptron. */
class Gemma2Block extends Module {
  readonly selfAttn: Gemma2Attention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: OffsetRmsNorm;
  readonly postAttentionLayernorm: OffsetRmsNorm;
  readonly preFeedforwardLayernorm: OffsetRmsNorm;
  readonly postFeedforwardLayernorm: OffsetRmsNorm;

  constructor(config: Gemma2Config, layer: number) {
    super();
    const { hiddenSize, intermediateSize, hiddenActivation: activation, rmsNormEps: eps } = config;
    this.selfAttn = new Gemma2Attention(config, layer);
    this.mlp = new GatedMlp(hiddenSize, intermediateSize, { activation, init: normal(config.initializerRange) });
    this.inputLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.preFeedforwardLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.postFeedforwardLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const attended = this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer);
    const h = wantedRows(x, sequences).add(this.postAttentionLayernorm.forward(attended));
    return h.add(this.postFeedforwardLayernorm.forward(this.mlp.forward(this.preFeedforwardLayernorm.forward(h))));
  }
}

/** Gemma 2: windows in turns, soft caps, norms on both sides. Gemma Team 2024, arXiv:2408.00118. */
export class Gemma2 extends LanguageModel {
  readonly embedTokens: ScaledEmbedding;
  readonly layers: readonly Gemma2Block[];
  readonly norm: OffsetRmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;
  readonly #logitCap: number | undefined;

  constructor(config: Gemma2Config) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new ScaledEmbedding(vocabSize, hiddenSize, { scale: Math.sqrt(hiddenSize), init });
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Gemma2Block(config, layer));
    this.norm = new OffsetRmsNorm(hiddenSize, { eps: config.rmsNormEps });
    this.lmHead = config.tieWordEmbeddings ? undefined : new Linear(hiddenSize, vocabSize, { bias: false, init });
    this.#heads = headSizes(config);
    this.#rotary = new Rotary(this.#heads.headSize, { theta: rope.ropeTheta, scaling: rope });
    this.#logitCap = config.finalLogitSoftcapping || undefined;
  }

  embed(ids: Tensor): Tensor {
    return this.embedTokens.forward(ids);
  }

  forward(x: Tensor, sequences: Sequences): Tensor {
    const angles = this.#rotary.at(positions(sequences), x);
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

/** A soft cap of null is none, not the default. */
function readCaps(json: Json): Json {
  const caps = ['attn_logit_softcapping', 'final_logit_softcapping'].filter((key) => json[key] === null).map((key) => [key, false]);
  return { ...json, ...Object.fromEntries(caps) };
}

/** The registry entry of Gemma 2. transformers' LLaVA leaves the soft cap of the logits out. */
export const gemma2 = part({
  modelType: 'gemma2',
  schema: Gemma2Config,
  make: Gemma2,
  read: (json) => readRope(readCaps(json)),
  write: ({ attn_logit_softcapping, final_logit_softcapping, ...json }) => ({
    architectures: ['Gemma2ForCausalLM'],
    ...writeRope(json),
    attn_logit_softcapping: attn_logit_softcapping || null,
    final_logit_softcapping: final_logit_softcapping || null,
  }),
  inTransformers: ({ finalLogitSoftcapping }) => finalLogitSoftcapping === false,
});
