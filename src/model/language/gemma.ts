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
import { part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { readRope, ropeParameters, writeRope } from './rope-parameters.ts';
import { checkHeads, type HeadSizes, headSizes, shape, tokenIds } from './shape.ts';

/** Settings of a Gemma; the defaults are those of transformers' GemmaConfig. */
export const GemmaConfig = z
  .strictObject({
    type: z.literal('gemma'),
    vocabSize: shape.vocabSize.default(256_000),
    hiddenSize: shape.hiddenSize.default(3072),
    intermediateSize: shape.intermediateSize.default(24_576),
    numHiddenLayers: shape.numHiddenLayers.default(28),
    numAttentionHeads: shape.numAttentionHeads.default(16),
    numKeyValueHeads: shape.numKeyValueHeads.default(16),
    headDim: shape.headDim.default(256),
    hiddenAct: shape.hiddenAct.default('gelu_pytorch_tanh'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(8192),
    rmsNormEps: shape.eps.default(1e-6),
    ropeParameters: ropeParameters(),
    attentionBias: z.boolean().default(false),
    /** Embedding models look both ways; these do not. */
    useBidirectionalAttention: z.literal(false).default(false),
    tieWordEmbeddings: z.boolean().default(true),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads);
export type GemmaConfig = z.output<typeof GemmaConfig>;

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class GemmaAttention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly #sizes: HeadSizes;

  constructor(config: GemmaConfig) {
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

class GemmaBlock extends Module {
  readonly selfAttn: GemmaAttention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: OffsetRmsNorm;
  readonly postAttentionLayernorm: OffsetRmsNorm;

  constructor(config: GemmaConfig) {
    super();
    const { hiddenSize, intermediateSize, hiddenAct: activation, rmsNormEps: eps } = config;
    this.selfAttn = new GemmaAttention(config);
    this.mlp = new GatedMlp(hiddenSize, intermediateSize, { activation, init: normal(config.initializerRange) });
    this.inputLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new OffsetRmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = wantedRows(x, sequences).add(this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer));
    return h.add(this.mlp.forward(this.postAttentionLayernorm.forward(h)));
  }
}

/** Gemma 1: Llama with scaled embeddings, wide heads and gains around 1. Gemma Team 2024, arXiv:2403.08295. */
export class Gemma extends LanguageModel {
  readonly embedTokens: ScaledEmbedding;
  readonly layers: readonly GemmaBlock[];
  readonly norm: OffsetRmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;

  constructor(config: GemmaConfig) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new ScaledEmbedding(vocabSize, hiddenSize, { scale: Math.sqrt(hiddenSize), init });
    this.layers = Array.from({ length: config.numHiddenLayers }, () => new GemmaBlock(config));
    this.norm = new OffsetRmsNorm(hiddenSize, { eps: config.rmsNormEps });
    this.lmHead = config.tieWordEmbeddings ? undefined : new Linear(hiddenSize, vocabSize, { bias: false, init });
    this.#heads = headSizes(config);
    this.#rotary = new Rotary(this.#heads.headSize, { theta: rope.ropeTheta, scaling: rope });
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

  createCache(options: { capacity?: number } = {}): KvCache {
    const { dtype, device } = this.embedTokens.weight;
    const { kvHeads, headSize } = this.#heads;
    return new KvCache({ layers: this.layers.length, kvHeads, headSize, dtype, device, ...options });
  }
}

/** The registry entry of Gemma. Its first files say `gelu` and mean the approximation by tanh. */
export const gemma = part({
  modelType: 'gemma',
  schema: GemmaConfig,
  make: Gemma,
  read: ({ hidden_act, ...json }) => readRope({ ...json, hidden_act: hidden_act === 'gelu' ? 'gelu_pytorch_tanh' : (hidden_act ?? null) }),
  write: (json) => ({ architectures: ['GemmaForCausalLM'], ...writeRope(json) }),
  inTransformers: () => true,
});
