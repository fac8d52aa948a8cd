import { z } from 'zod';
import { packedAttention, positions, type Sequences, wantedRows } from '../../nn/attention.ts';
import { Embedding } from '../../nn/embedding.ts';
import { GatedMlp } from '../../nn/gated-mlp.ts';
import { normal } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { RmsNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { readRope, ropeParameters, writeRope } from './rope-parameters.ts';
import { checkHeads, checkLayerTypes, type HeadSizes, headSizes, LayerType, shape, tokenIds } from './shape.ts';

/** Settings of a Qwen3; the defaults are those of transformers' Qwen3Config. */
export const Qwen3Config = z
  .strictObject({
    type: z.literal('qwen3'),
    vocabSize: shape.vocabSize.default(151_936),
    hiddenSize: shape.hiddenSize.default(4096),
    intermediateSize: shape.intermediateSize.default(22_016),
    numHiddenLayers: shape.numHiddenLayers.default(32),
    numAttentionHeads: shape.numAttentionHeads.default(32),
    numKeyValueHeads: shape.numKeyValueHeads.default(32),
    headDim: shape.headDim.default(128),
    hiddenAct: shape.hiddenAct.default('silu'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(32_768),
    rmsNormEps: shape.eps.default(1e-6),
    ropeParameters: ropeParameters(),
    attentionBias: z.boolean().default(false),
    /** Published files give a window that is not used. */
    useSlidingWindow: z.boolean().default(false),
    slidingWindow: z.int().positive().default(4096),
    /** The first layers that see their whole sequence although windows are used, unless `layerTypes` says it one by one. */
    maxWindowLayers: z.int().nonnegative().default(28),
    layerTypes: z.array(LayerType).optional(),
    tieWordEmbeddings: z.boolean().default(false),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkLayerTypes);
export type Qwen3Config = z.output<typeof Qwen3Config>;

function windowOf({ useSlidingWindow, slidingWindow, maxWindowLayers, layerTypes }: Qwen3Config, layer: number): number | undefined {
  const slides = layerTypes ? layerTypes[layer] === 'sliding_attention' : layer >= maxWindowLayers;
  return useSlidingWindow && slides ? slidingWindow : undefined;
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class Qwen3Attention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly qNorm: RmsNorm;
  readonly kNorm: RmsNorm;
  readonly #sizes: HeadSizes;
  readonly #window: number | undefined;

  constructor(config: Qwen3Config, layer: number) {
    super();
    const { hiddenSize, attentionBias: bias, rmsNormEps: eps } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { bias, init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.oProj = new Linear(heads * headSize, hiddenSize, { bias, init });
    this.qNorm = new RmsNorm(headSize, { eps });
    this.kNorm = new RmsNorm(headSize, { eps });
    this.#sizes = { heads, kvHeads, headSize };
    this.#window = windowOf(config, layer);
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const q = rotate(this.qNorm.forward(this.qProj.forward(x).view(-1, heads, headSize)), angles); // [N, H, D]
    const k = rotate(this.kNorm.forward(this.kProj.forward(x).view(-1, kvHeads, headSize)), angles); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    return this.oProj.forward(packedAttention(q, k, v, sequences, { layer, window: this.#window }));
  }
}

class Qwen3Block extends Module {
  readonly selfAttn: Qwen3Attention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: RmsNorm;
  readonly postAttentionLayernorm: RmsNorm;

  constructor(config: Qwen3Config, layer: number) {
    super();
    const { hiddenSize, intermediateSize, hiddenAct: activation, rmsNormEps: eps } = config;
    this.selfAttn = new Qwen3Attention(config, layer);
    this.mlp = new GatedMlp(hiddenSize, intermediateSize, { activation, init: normal(config.initializerRange) });
    this.inputLayernorm = new RmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new RmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = wantedRows(x, sequences).add(this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer));
    return h.add(this.mlp.forward(this.postAttentionLayernorm.forward(h)));
  }
}

/** Qwen 3: Qwen 2 with normalized queries and keys in place of biases. Yang et al. 2025, arXiv:2505.09388. */
export class Qwen3 extends LanguageModel {
  readonly embedTokens: Embedding;
  readonly layers: readonly Qwen3Block[];
  readonly norm: RmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;

  constructor(config: Qwen3Config) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new Embedding(vocabSize, hiddenSize, { init });
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Qwen3Block(config, layer));
    this.norm = new RmsNorm(hiddenSize, { eps: config.rmsNormEps });
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

/** The registry entry of Qwen3. */
export const qwen3 = part({
  modelType: 'qwen3',
  schema: Qwen3Config,
  make: Qwen3,
  read: readRope,
  write: (json) => ({ architectures: ['Qwen3ForCausalLM'], ...writeRope(json) }),
  inTransformers: () => true,
});
