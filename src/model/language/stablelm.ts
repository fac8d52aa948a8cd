import { z } from 'zod';
import { packedAttention, positions, type Sequences, wantedRows } from '../../nn/attention.ts';
import { Embedding } from '../../nn/embedding.ts';
import { GatedMlp } from '../../nn/gated-mlp.ts';
import { normal } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import { stack } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { checkRotated, partialRotaryFactor, readPartialRope, ropeParameters, rotatedSize, writePartialRope } from './rope-parameters.ts';
import { checkHeads, type HeadSizes, headSizes, shape, tokenIds } from './shape.ts';

/** Settings of a StableLM; the defaults are those of transformers' StableLmConfig. */
export const StableLmConfig = z
  .strictObject({
    type: z.literal('stablelm'),
    vocabSize: shape.vocabSize.default(50_304),
    hiddenSize: shape.hiddenSize.default(2560),
    intermediateSize: shape.intermediateSize.default(6912),
    numHiddenLayers: shape.numHiddenLayers.default(32),
    numAttentionHeads: shape.numAttentionHeads.default(32),
    numKeyValueHeads: shape.numKeyValueHeads.default(32),
    hiddenAct: shape.hiddenAct.default('silu'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(4096),
    layerNormEps: shape.eps.default(1e-5),
    ropeParameters: ropeParameters(),
    partialRotaryFactor: partialRotaryFactor.default(0.25),
    useQkvBias: z.boolean().default(false),
    /** Normalizes every head of queries and keys, each with a weight of its own. */
    qkLayernorm: z.boolean().default(false),
    /** Attention and perceptron read the same normalized rows, side by side. */
    useParallelResidual: z.boolean().default(false),
    tieWordEmbeddings: z.boolean().default(false),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkRotated);
export type StableLmConfig = z.output<typeof StableLmConfig>;

class HeadNorms extends Module {
  readonly norms: readonly LayerNorm[];

  constructor(heads: number, headSize: number, { eps }: { eps: number }) {
    super();
    this.norms = Array.from({ length: heads }, () => new LayerNorm(headSize, { eps, bias: false }));
  }

  /** `x` [N, H, D], same shape out. */
  forward(x: Tensor): Tensor {
    const heads = x.unbind(1);
    return stack(
      this.norms.map((norm, head) => norm.forward(heads[head] as Tensor)),
      1,
    );
  }
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class StableLmAttention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly qLayernorm: HeadNorms | undefined;
  readonly kLayernorm: HeadNorms | undefined;
  readonly #sizes: HeadSizes;

  constructor(config: StableLmConfig) {
    super();
    const { hiddenSize, useQkvBias: bias, qkLayernorm, layerNormEps: eps } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { bias, init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.oProj = new Linear(hiddenSize, hiddenSize, { bias: false, init });
    this.qLayernorm = qkLayernorm ? new HeadNorms(heads, headSize, { eps }) : undefined;
    this.kLayernorm = qkLayernorm ? new HeadNorms(kvHeads, headSize, { eps }) : undefined;
    this.#sizes = { heads, kvHeads, headSize };
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const q = this.qProj.forward(x).view(-1, heads, headSize); // [N, H, D]
    const k = this.kProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    const queries = rotate(this.qLayernorm?.forward(q) ?? q, angles);
    const keys = rotate(this.kLayernorm?.forward(k) ?? k, angles);
    return this.oProj.forward(packedAttention(queries, keys, v, sequences, { layer }));
  }
}

class StableLmBlock extends Module {
  readonly selfAttn: StableLmAttention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: LayerNorm;
  /** Absent where attention and perceptron stand side by side. */
  readonly postAttentionLayernorm: LayerNorm | undefined;

  constructor(config: StableLmConfig) {
    super();
    const { hiddenSize, intermediateSize, hiddenAct: activation, layerNormEps: eps } = config;
    this.selfAttn = new StableLmAttention(config);
    this.mlp = new GatedMlp(hiddenSize, intermediateSize, { activation, init: normal(config.initializerRange) });
    this.inputLayernorm = new LayerNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = config.useParallelResidual ? undefined : new LayerNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const normalized = this.inputLayernorm.forward(x);
    const h = wantedRows(x, sequences).add(this.selfAttn.forward(normalized, angles, sequences, layer));
    return h.add(this.mlp.forward(this.postAttentionLayernorm?.forward(h) ?? wantedRows(normalized, sequences)));
  }
}

/** StableLM 3B-4E1T, StableLM 2 and Zephyr. Bellagente et al. 2024, arXiv:2402.17834. */
export class StableLm extends LanguageModel {
  readonly embedTokens: Embedding;
  readonly layers: readonly StableLmBlock[];
  readonly norm: LayerNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;

  constructor(config: StableLmConfig) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new Embedding(vocabSize, hiddenSize, { init });
    this.layers = Array.from({ length: config.numHiddenLayers }, () => new StableLmBlock(config));
    this.norm = new LayerNorm(hiddenSize, { eps: config.layerNormEps });
    this.lmHead = config.tieWordEmbeddings ? undefined : new Linear(hiddenSize, vocabSize, { bias: false, init });
    this.#heads = headSizes(config);
    this.#rotary = new Rotary(rotatedSize(this.#heads.headSize, config.partialRotaryFactor), { theta: rope.ropeTheta, scaling: rope });
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

/** The registry entry of StableLM. */
export const stablelm = part({
  modelType: 'stablelm',
  schema: StableLmConfig,
  make: StableLm,
  read: readPartialRope,
  write: (json) => ({ architectures: ['StableLmForCausalLM'], ...writePartialRope(json) }),
  inTransformers: () => true,
});
