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
import { checkHeads, type HeadSizes, headSizes, shape, tokenIds } from './shape.ts';

/** Settings of a Llama; the defaults are those of transformers' LlamaConfig. */
export const LlamaConfig = z
  .strictObject({
    type: z.literal('llama'),
    vocabSize: shape.vocabSize.default(32_000),
    hiddenSize: shape.hiddenSize.default(4096),
    intermediateSize: shape.intermediateSize.default(11_008),
    numHiddenLayers: shape.numHiddenLayers.default(32),
    numAttentionHeads: shape.numAttentionHeads.default(32),
    numKeyValueHeads: shape.numKeyValueHeads.optional(),
    headDim: shape.headDim.optional(),
    hiddenAct: shape.hiddenAct.default('silu'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(2048),
    rmsNormEps: shape.eps.default(1e-6),
    ropeParameters: ropeParameters(),
    attentionBias: z.boolean().default(false),
    mlpBias: z.boolean().default(false),
    tieWordEmbeddings: z.boolean().default(false),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads);
export type LlamaConfig = z.output<typeof LlamaConfig>;

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

class LlamaBlock extends Module {
  readonly selfAttn: LlamaAttention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: RmsNorm;
  readonly postAttentionLayernorm: RmsNorm;

  constructor(config: LlamaConfig) {
    super();
    this.selfAttn = new LlamaAttention(config);
    const { hiddenSize, hiddenAct, mlpBias: bias, rmsNormEps: eps } = config;
    this.mlp = new GatedMlp(hiddenSize, config.intermediateSize, { activation: hiddenAct, bias, init: normal(config.initializerRange) });
    this.inputLayernorm = new RmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new RmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = wantedRows(x, sequences).add(this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer));
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

/** The registry entry of Llama. */
export const llama = part({
  modelType: 'llama',
  schema: LlamaConfig,
  make: Llama,
  read: readRope,
  write: (json) => ({ architectures: ['LlamaForCausalLM'], ...writeRope(json) }),
  inTransformers: () => true,
});
