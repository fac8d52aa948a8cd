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

/** Settings of a SmolLM3; the defaults are those of transformers' SmolLM3Config. */
export const SmolLm3Config = z
  .strictObject({
    type: z.literal('smollm3'),
    vocabSize: shape.vocabSize.default(128_256),
    hiddenSize: shape.hiddenSize.default(2048),
    intermediateSize: shape.intermediateSize.default(11_008),
    numHiddenLayers: shape.numHiddenLayers.default(36),
    numAttentionHeads: shape.numAttentionHeads.default(16),
    numKeyValueHeads: shape.numKeyValueHeads.default(4),
    hiddenAct: shape.hiddenAct.default('silu'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(32_768),
    rmsNormEps: shape.eps.default(1e-6),
    ropeParameters: ropeParameters(2_000_000),
    /** Every so-manieth layer has no rotary positions, unless `noRopeLayers` says it one by one. */
    noRopeLayerInterval: z.int().positive().default(4),
    /** 1 for a layer that has rotary positions, whatever the name says, 0 for one that has none. */
    noRopeLayers: z.array(z.union([z.literal(0), z.literal(1)])).optional(),
    useSlidingWindow: z.boolean().default(false),
    slidingWindow: z.int().positive().optional(),
    /** Layers without rotary positions have the window, if there is one, unless said one by one. */
    layerTypes: z.array(LayerType).optional(),
    attentionBias: z.boolean().default(false),
    mlpBias: z.boolean().default(false),
    tieWordEmbeddings: z.boolean().default(true),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkLayerTypes);
export type SmolLm3Config = z.output<typeof SmolLm3Config>;

function rotates({ noRopeLayers, noRopeLayerInterval }: SmolLm3Config, layer: number): boolean {
  return noRopeLayers ? noRopeLayers[layer] === 1 : (layer + 1) % noRopeLayerInterval !== 0;
}

function windowOf(config: SmolLm3Config, layer: number): number | undefined {
  const { layerTypes, useSlidingWindow, slidingWindow } = config;
  const slides = layerTypes ? layerTypes[layer] === 'sliding_attention' : !rotates(config, layer);
  return useSlidingWindow && slides ? slidingWindow : undefined;
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class SmolLm3Attention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly #sizes: HeadSizes;
  readonly #window: number | undefined;
  readonly #rotates: boolean;

  constructor(config: SmolLm3Config, layer: number) {
    super();
    const { hiddenSize, attentionBias: bias } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { bias, init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { bias, init });
    this.oProj = new Linear(heads * headSize, hiddenSize, { bias, init });
    this.#sizes = { heads, kvHeads, headSize };
    this.#window = windowOf(config, layer);
    this.#rotates = rotates(config, layer);
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const turned = (y: Tensor): Tensor => (this.#rotates ? rotate(y, angles) : y);
    const q = turned(this.qProj.forward(x).view(-1, heads, headSize)); // [N, H, D]
    const k = turned(this.kProj.forward(x).view(-1, kvHeads, headSize)); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    return this.oProj.forward(packedAttention(q, k, v, sequences, { layer, window: this.#window }));
  }
}

class SmolLm3Block extends Module {
  readonly selfAttn: SmolLm3Attention;
  readonly mlp: GatedMlp;
  readonly inputLayernorm: RmsNorm;
  readonly postAttentionLayernorm: RmsNorm;

  constructor(config: SmolLm3Config, layer: number) {
    super();
    const { hiddenSize, intermediateSize, hiddenAct: activation, mlpBias: bias, rmsNormEps: eps } = config;
    this.selfAttn = new SmolLm3Attention(config, layer);
    this.mlp = new GatedMlp(hiddenSize, intermediateSize, { activation, bias, init: normal(config.initializerRange) });
    this.inputLayernorm = new RmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new RmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = wantedRows(x, sequences).add(this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer));
    return h.add(this.mlp.forward(this.postAttentionLayernorm.forward(h)));
  }
}

/** SmolLM3: Llama with layers that know no positions between those that do. Yang et al. 2025, arXiv:2501.18795. */
export class SmolLm3 extends LanguageModel {
  readonly embedTokens: Embedding;
  readonly layers: readonly SmolLm3Block[];
  readonly norm: RmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;

  constructor(config: SmolLm3Config) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new Embedding(vocabSize, hiddenSize, { init });
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new SmolLm3Block(config, layer));
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

/** The registry entry of SmolLM3. */
export const smollm3 = part({
  modelType: 'smollm3',
  schema: SmolLm3Config,
  make: SmolLm3,
  read: readRope,
  write: (json) => ({ architectures: ['SmolLM3ForCausalLM'], ...writeRope(json) }),
  inTransformers: () => true,
});
