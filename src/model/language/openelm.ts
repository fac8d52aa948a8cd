import { z } from 'zod';
import { type ActivationName, activationNames, activations } from '../../nn/activation.ts';
import { packedAttention, positions, type Sequences, wantedRows } from '../../nn/attention.ts';
import { Embedding } from '../../nn/embedding.ts';
import { normal } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { RmsNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { type HeadSizes, shape, tokenIds } from './shape.ts';

const multiplier = z.number().positive();

/** Settings of an OpenELM, spelled as its own files do, with the defaults of their OpenELMConfig. */
export const OpenElmConfig = z
  .strictObject({
    type: z.literal('openelm'),
    vocabSize: shape.vocabSize.default(32_000),
    maxContextLength: z.int().positive().default(2048),
    numTransformerLayers: z.int().positive().default(12),
    modelDim: z.int().positive().default(2048),
    headDim: shape.headDim.default(128),
    /** Width of the queries over `modelDim`; two numbers are those of the first and the last layer. */
    qkvMultipliers: z.union([multiplier, z.tuple([multiplier, multiplier])]).default(1),
    /** Query heads that share a key/value head. */
    numGqaGroups: z.int().positive().default(1),
    /** Inner width of the perceptron over `modelDim`; two numbers are those of the first and the last layer, more those of every layer. */
    ffnMultipliers: z.union([multiplier, z.array(multiplier)]).default(4),
    ffnWithGlu: z.boolean().default(true),
    /** Inner widths are rounded to multiples of it. */
    ffnDimDivisor: z.int().positive().default(256),
    activationFnName: z.enum(activationNames).default('swish'),
    normalizationLayerName: z.literal('rms_norm').default('rms_norm'),
    normalizeQkProjections: z.boolean().default(false),
    shareInputOutputLayers: z.boolean().default(false),
    ropeFreqConstant: z.number().positive().default(10_000),
    ropeMaxLength: z.int().positive().default(4096),
    ...tokenIds,
  })
  .refine(({ ffnMultipliers: m, numTransformerLayers }) => typeof m === 'number' || m.length === 2 || m.length === numTransformerLayers, {
    path: ['ffnMultipliers'],
    error: 'expected one number, two, or one for each of numTransformerLayers',
  });
export type OpenElmConfig = z.output<typeof OpenElmConfig>;

/** One value for each layer: evenly from the first to the last, in hundredths. */
function perLayer(value: number | readonly number[], layers: number): number[] {
  if (typeof value === 'number') return new Array<number>(layers).fill(value);
  if (value.length !== 2) return [...value];
  const [first = 0, last = 0] = value;
  const step = layers > 1 ? (last - first) / (layers - 1) : 0;
  return Array.from({ length: layers }, (_, i) => hundredths(i > 0 && i === layers - 1 ? last : first + i * step));
}

/** As NumPy rounds: halves to the even neighbour. */
function hundredths(value: number): number {
  const scaled = value * 100;
  const floor = Math.floor(scaled);
  const up = scaled - floor > 0.5 || (scaled - floor === 0.5 && floor % 2 === 1);
  return (up ? floor + 1 : floor) / 100;
}

/** The nearest multiple, but never less than nine tenths. */
function toMultiple(value: number, divisor: number): number {
  const nearest = Math.max(divisor, Math.floor(Math.trunc(value + divisor / 2) / divisor) * divisor);
  return nearest < 0.9 * value ? nearest + divisor : nearest;
}

/** What differs from layer to layer. */
interface LayerSizes extends HeadSizes {
  readonly inner: number;
}

function layerSizes(config: OpenElmConfig): LayerSizes[] {
  const { modelDim, headDim: headSize, numGqaGroups, numTransformerLayers: layers } = config;
  const inner = perLayer(config.ffnMultipliers, layers);
  return perLayer(config.qkvMultipliers, layers).map((queries, layer) => {
    const heads = toMultiple(modelDim * queries, headSize * numGqaGroups) / headSize;
    return { heads, kvHeads: heads / numGqaGroups, headSize, inner: toMultiple((inner[layer] ?? 0) * modelDim, config.ffnDimDivisor) };
  });
}

/** The start of what adds to the residual stream shrinks with the depth. */
const residualInit = ({ modelDim, numTransformerLayers }: OpenElmConfig) => normal((modelDim * 2 * numTransformerLayers) ** -0.5);

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size; H and G are the layer's own. */
class OpenElmAttention extends Module {
  readonly qkvProj: Linear;
  readonly qNorm: RmsNorm | undefined;
  readonly kNorm: RmsNorm | undefined;
  readonly outProj: Linear;
  readonly #sizes: HeadSizes;

  constructor(config: OpenElmConfig, { heads, kvHeads, headSize }: LayerSizes) {
    super();
    const { modelDim, normalizeQkProjections } = config;
    this.qkvProj = new Linear(modelDim, (heads + 2 * kvHeads) * headSize, { bias: false, init: normal(modelDim ** -0.5) });
    this.qNorm = normalizeQkProjections ? new RmsNorm(headSize) : undefined;
    this.kNorm = normalizeQkProjections ? new RmsNorm(headSize) : undefined;
    this.outProj = new Linear(heads * headSize, modelDim, { bias: false, init: residualInit(config) });
    this.#sizes = { heads, kvHeads, headSize };
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const qkv = this.qkvProj.forward(x).view(-1, heads + 2 * kvHeads, headSize); // [N, H + 2G, D]
    const [q, k, v] = qkv.split([heads, kvHeads, kvHeads], 1) as [Tensor, Tensor, Tensor];
    const queries = rotate(this.qNorm?.forward(q) ?? q, angles);
    const keys = rotate(this.kNorm?.forward(k) ?? k, angles);
    return this.outProj.forward(packedAttention(queries, keys, v, sequences, { layer }));
  }
}

class OpenElmFeedForward extends Module {
  readonly proj_1: Linear;
  readonly proj_2: Linear;
  readonly #activation: ActivationName;
  readonly #gated: boolean;

  constructor(config: OpenElmConfig, { inner }: LayerSizes) {
    super();
    const { modelDim, ffnWithGlu } = config;
    this.proj_1 = new Linear(modelDim, ffnWithGlu ? 2 * inner : inner, { bias: false, init: normal(modelDim ** -0.5) });
    this.proj_2 = new Linear(inner, modelDim, { bias: false, init: residualInit(config) });
    this.#activation = config.activationFnName;
    this.#gated = ffnWithGlu;
  }

  forward(x: Tensor): Tensor {
    const y = this.proj_1.forward(x);
    if (!this.#gated) return this.proj_2.forward(activations[this.#activation](y));
    const [gate, up] = y.split([y.size(1) / 2, y.size(1) / 2], 1) as [Tensor, Tensor];
    return this.proj_2.forward(activations[this.#activation](gate, up));
  }
}

class OpenElmBlock extends Module {
  readonly attn: OpenElmAttention;
  readonly ffn: OpenElmFeedForward;
  readonly ffnNorm: RmsNorm;
  readonly attnNorm: RmsNorm;

  constructor(config: OpenElmConfig, sizes: LayerSizes) {
    super();
    this.attn = new OpenElmAttention(config, sizes);
    this.ffn = new OpenElmFeedForward(config, sizes);
    this.ffnNorm = new RmsNorm(config.modelDim);
    this.attnNorm = new RmsNorm(config.modelDim);
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = wantedRows(x, sequences).add(this.attn.forward(this.attnNorm.forward(x), angles, sequences, layer));
    return h.add(this.ffn.forward(this.ffnNorm.forward(h)));
  }
}

/** OpenELM: layers that grow in heads and width with depth. Mehta et al. 2024, arXiv:2404.14619. */
export class OpenElm extends LanguageModel {
  readonly tokenEmbeddings: Embedding;
  readonly layers: readonly OpenElmBlock[];
  readonly norm: RmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #sizes: readonly LayerSizes[];
  readonly #rotary: Rotary;

  constructor(config: OpenElmConfig) {
    super();
    const { vocabSize, modelDim } = config;
    const init = normal(modelDim ** -0.5);
    this.hiddenSize = modelDim;
    this.vocabSize = vocabSize;
    this.tokenEmbeddings = new Embedding(vocabSize, modelDim, { init });
    this.#sizes = layerSizes(config);
    this.layers = this.#sizes.map((sizes) => new OpenElmBlock(config, sizes));
    this.norm = new RmsNorm(modelDim);
    this.lmHead = config.shareInputOutputLayers ? undefined : new Linear(modelDim, vocabSize, { bias: false, init });
    this.#rotary = new Rotary(config.headDim, { theta: config.ropeFreqConstant });
  }

  override get prefix(): string {
    return 'transformer';
  }

  embed(ids: Tensor): Tensor {
    return this.tokenEmbeddings.forward(ids);
  }

  forward(x: Tensor, sequences: Sequences): Tensor {
    const angles = this.#rotary.at(positions(sequences), x);
    return this.norm.forward(this.run(this.layers, x, sequences, (layer, h, own, index) => layer.forward(h, angles, own, index)));
  }

  get headWeight(): Tensor {
    return (this.lmHead ?? this.tokenEmbeddings).weight;
  }

  createCache(options: { capacity?: number } = {}): KvCache {
    const { dtype, device } = this.tokenEmbeddings.weight;
    const kvHeads = this.#sizes.map((sizes) => sizes.kvHeads);
    return new KvCache({ layers: this.layers.length, kvHeads, headSize: this.#sizes[0]?.headSize ?? 0, dtype, device, ...options });
  }
}

/** The registry entry of OpenELM, whose tie of head and embeddings has a name of its own. */
export const openelm = part({
  modelType: 'openelm',
  schema: OpenElmConfig,
  make: OpenElm,
  read: (json) => ({ ...json, share_input_output_layers: json['share_input_output_layers'] || json['tie_word_embeddings'] || null }),
  write: (json) => ({ architectures: ['OpenELMForCausalLM'], ...json, tie_word_embeddings: json['share_input_output_layers'] }),
});
