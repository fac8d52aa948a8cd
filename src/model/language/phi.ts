import { z } from 'zod';
import { type ActivationName, activations } from '../../nn/activation.ts';
import { packedAttention, positions, type Sequences, wantedRows } from '../../nn/attention.ts';
import { Embedding } from '../../nn/embedding.ts';
import { normal, zeros } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { Linear } from '../../nn/linear.ts';
import { Module, parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { checkRotated, partialRotaryFactor, readPartialRope, ropeParameters, rotatedSize, writePartialRope } from './rope-parameters.ts';
import { checkHeads, type HeadSizes, headSizes, shape, tokenIds } from './shape.ts';

/** Settings of a Phi; the defaults are those of transformers' PhiConfig. */
export const PhiConfig = z
  .strictObject({
    type: z.literal('phi'),
    vocabSize: shape.vocabSize.default(51_200),
    hiddenSize: shape.hiddenSize.default(2048),
    intermediateSize: shape.intermediateSize.default(8192),
    numHiddenLayers: shape.numHiddenLayers.default(24),
    numAttentionHeads: shape.numAttentionHeads.default(32),
    numKeyValueHeads: shape.numKeyValueHeads.optional(),
    hiddenAct: shape.hiddenAct.default('gelu_new'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(2048),
    layerNormEps: shape.eps.default(1e-5),
    ropeParameters: ropeParameters(),
    partialRotaryFactor: partialRotaryFactor.default(0.5),
    /** Normalizes every head of queries and keys. */
    qkLayernorm: z.boolean().default(false),
    tieWordEmbeddings: z.boolean().default(false),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkRotated);
export type PhiConfig = z.output<typeof PhiConfig>;

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class PhiAttention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly dense: Linear;
  readonly qLayernorm: LayerNorm | undefined;
  readonly kLayernorm: LayerNorm | undefined;
  readonly #sizes: HeadSizes;

  constructor(config: PhiConfig) {
    super();
    const { hiddenSize, qkLayernorm, layerNormEps: eps } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(config.initializerRange);
    this.qProj = new Linear(hiddenSize, heads * headSize, { init });
    this.kProj = new Linear(hiddenSize, kvHeads * headSize, { init });
    this.vProj = new Linear(hiddenSize, kvHeads * headSize, { init });
    this.dense = new Linear(heads * headSize, hiddenSize, { init });
    this.qLayernorm = qkLayernorm ? new LayerNorm(headSize, { eps }) : undefined;
    this.kLayernorm = qkLayernorm ? new LayerNorm(headSize, { eps }) : undefined;
    this.#sizes = { heads, kvHeads, headSize };
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const q = this.qProj.forward(x).view(-1, heads, headSize); // [N, H, D]
    const k = this.kProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    const v = this.vProj.forward(x).view(-1, kvHeads, headSize); // [N, G, D]
    const queries = rotate(this.qLayernorm?.forward(q) ?? q, angles);
    const keys = rotate(this.kLayernorm?.forward(k) ?? k, angles);
    return this.dense.forward(packedAttention(queries, keys, v, sequences, { layer }));
  }
}

class PhiMlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #activation: ActivationName;

  constructor({ hiddenSize, intermediateSize, hiddenAct, initializerRange }: PhiConfig) {
    super();
    const init = normal(initializerRange);
    this.fc1 = new Linear(hiddenSize, intermediateSize, { init });
    this.fc2 = new Linear(intermediateSize, hiddenSize, { init });
    this.#activation = hiddenAct;
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(activations[this.#activation](this.fc1.forward(x)));
  }
}

class PhiBlock extends Module {
  readonly selfAttn: PhiAttention;
  readonly mlp: PhiMlp;
  readonly inputLayernorm: LayerNorm;

  constructor(config: PhiConfig) {
    super();
    this.selfAttn = new PhiAttention(config);
    this.mlp = new PhiMlp(config);
    this.inputLayernorm = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
  }

  /** Attention and perceptron read the same normalized rows, side by side. */
  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const normalized = this.inputLayernorm.forward(x);
    const attended = this.selfAttn.forward(normalized, angles, sequences, layer);
    return attended.add(this.mlp.forward(wantedRows(normalized, sequences))).add(wantedRows(x, sequences));
  }
}

/** The head, whose weight is the embeddings' when tied; the bias is always its own. */
class PhiHead extends Module {
  readonly weight: Tensor | undefined;
  readonly bias: Tensor;

  constructor({ hiddenSize, vocabSize, tieWordEmbeddings, initializerRange }: PhiConfig) {
    super();
    this.weight = tieWordEmbeddings ? undefined : parameter([vocabSize, hiddenSize], normal(initializerRange));
    this.bias = parameter([vocabSize], zeros);
  }
}

/** Phi-1, Phi-1.5 and Phi-2. Li et al. 2023, arXiv:2309.05463. */
export class Phi extends LanguageModel {
  readonly embedTokens: Embedding;
  readonly layers: readonly PhiBlock[];
  readonly finalLayernorm: LayerNorm;
  readonly lmHead: PhiHead;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: Rotary;

  constructor(config: PhiConfig) {
    super();
    const { vocabSize, hiddenSize, ropeParameters: rope } = config;
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new Embedding(vocabSize, hiddenSize, { init: normal(config.initializerRange) });
    this.layers = Array.from({ length: config.numHiddenLayers }, () => new PhiBlock(config));
    this.finalLayernorm = new LayerNorm(hiddenSize, { eps: config.layerNormEps });
    this.lmHead = new PhiHead(config);
    this.#heads = headSizes(config);
    this.#rotary = new Rotary(rotatedSize(this.#heads.headSize, config.partialRotaryFactor), { theta: rope.ropeTheta, scaling: rope });
  }

  embed(ids: Tensor): Tensor {
    return this.embedTokens.forward(ids);
  }

  forward(x: Tensor, sequences: Sequences): Tensor {
    const angles = this.#rotary.at(positions(sequences), x);
    return this.finalLayernorm.forward(this.run(this.layers, x, sequences, (layer, h, own, index) => layer.forward(h, angles, own, index)));
  }

  get headWeight(): Tensor {
    return this.lmHead.weight ?? this.embedTokens.weight;
  }

  override get headBias(): Tensor {
    return this.lmHead.bias;
  }

  createCache(options: { capacity?: number } = {}): KvCache {
    const { dtype, device } = this.embedTokens.weight;
    const { kvHeads, headSize } = this.#heads;
    return new KvCache({ layers: this.layers.length, kvHeads, headSize, dtype, device, ...options });
  }
}

/** The registry entry of Phi. transformers' LLaVA has no place for the bias of its head. */
export const phi = part({
  modelType: 'phi',
  schema: PhiConfig,
  make: Phi,
  read: readPartialRope,
  write: (json) => ({ architectures: ['PhiForCausalLM'], ...writePartialRope(json) }),
});
