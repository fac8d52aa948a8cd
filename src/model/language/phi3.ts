import { z } from 'zod';
import { ShapeError } from '../../errors.ts';
import { type Activation, activations } from '../../nn/activation.ts';
import { packedAttention, positions, type Sequences, wantedRows } from '../../nn/attention.ts';
import { Embedding } from '../../nn/embedding.ts';
import { normal } from '../../nn/init.ts';
import { KvCache } from '../../nn/kv-cache.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { RmsNorm } from '../../nn/norm.ts';
import { Rotary, type RotaryAngles, rotate } from '../../nn/rope.ts';
import { tensor, where } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Json, part } from '../part.ts';
import { LanguageModel } from './language-model.ts';
import { checkRotated, partialRotaryFactor, readPartialRope, rotatedSize, writePartialRope } from './rope-parameters.ts';
import { checkHeads, type HeadSizes, headSizes, shape, tokenIds } from './shape.ts';

const ropeTheta = z.number().positive().default(10_000);
const factors = z.array(z.number().positive());

/** Settings of a Phi-3; the defaults are those of transformers' Phi3Config. */
export const Phi3Config = z
  .strictObject({
    type: z.literal('phi3'),
    vocabSize: shape.vocabSize.default(32_064),
    hiddenSize: shape.hiddenSize.default(3072),
    intermediateSize: shape.intermediateSize.default(8192),
    numHiddenLayers: shape.numHiddenLayers.default(32),
    numAttentionHeads: shape.numAttentionHeads.default(32),
    numKeyValueHeads: shape.numKeyValueHeads.optional(),
    hiddenAct: shape.hiddenAct.default('silu'),
    maxPositionEmbeddings: shape.maxPositionEmbeddings.default(4096),
    /** Sequences longer than this turn by the long factors. */
    originalMaxPositionEmbeddings: shape.maxPositionEmbeddings.default(4096),
    rmsNormEps: shape.eps.default(1e-5),
    ropeParameters: z
      .discriminatedUnion('ropeType', [
        z.strictObject({ ropeType: z.literal('default'), ropeTheta }),
        z.strictObject({
          ropeType: z.literal('longrope'),
          ropeTheta,
          shortFactor: factors,
          longFactor: factors,
          /** How much longer sequences may be; maxPositionEmbeddings / originalMaxPositionEmbeddings unless said otherwise. */
          factor: z.number().positive().optional(),
          /** What is rotated grows by it; computed from `factor` unless said otherwise. */
          attentionFactor: z.number().positive().optional(),
        }),
      ])
      .default({ ropeType: 'default', ropeTheta: 10_000 }),
    partialRotaryFactor: partialRotaryFactor.default(1),
    slidingWindow: z.int().positive().optional(),
    tieWordEmbeddings: z.boolean().default(false),
    initializerRange: shape.initializerRange,
    ...tokenIds,
  })
  .superRefine(checkHeads)
  .superRefine(checkRotated)
  .superRefine((config, context) => {
    const { ropeParameters: rope } = config;
    const wanted = rotatedSize(headSizes(config).headSize, config.partialRotaryFactor) / 2;
    if (rope.ropeType === 'default' || (rope.shortFactor.length === wanted && rope.longFactor.length === wanted)) return;
    context.addIssue({ code: 'custom', path: ['ropeParameters'], message: `expected ${wanted} short and ${wanted} long factors` });
  });
export type Phi3Config = z.output<typeof Phi3Config>;

/** Rotary positions of sequences up to the original length, and of longer ones where those differ. Ding et al. 2024, arXiv:2402.13753. */
function rotariesOf(config: Phi3Config): { short: Rotary; long?: Rotary } {
  const { ropeParameters: rope, originalMaxPositionEmbeddings: original } = config;
  const size = rotatedSize(headSizes(config).headSize, config.partialRotaryFactor);
  const theta = rope.ropeTheta;
  if (rope.ropeType === 'default') return { short: new Rotary(size, { theta }) };
  const factor = rope.factor ?? config.maxPositionEmbeddings / original;
  const amplitude = rope.attentionFactor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
  const rotary = (factors: readonly number[]): Rotary => new Rotary(size, { theta, scaling: { ropeType: 'factors', factors, amplitude } });
  return { short: rotary(rope.shortFactor), long: rotary(rope.longFactor) };
}

/** Dims: N packed tokens, C width, H query heads, G key/value heads, D head size. */
class Phi3Attention extends Module {
  readonly qkvProj: Linear;
  readonly oProj: Linear;
  readonly #sizes: HeadSizes;
  readonly #window: number | undefined;

  constructor(config: Phi3Config) {
    super();
    const { hiddenSize, initializerRange } = config;
    const { heads, kvHeads, headSize } = headSizes(config);
    const init = normal(initializerRange);
    this.qkvProj = new Linear(hiddenSize, (heads + 2 * kvHeads) * headSize, { bias: false, init });
    this.oProj = new Linear(heads * headSize, hiddenSize, { bias: false, init });
    this.#sizes = { heads, kvHeads, headSize };
    this.#window = config.slidingWindow;
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const { heads, kvHeads, headSize } = this.#sizes;
    const qkv = this.qkvProj.forward(x).view(-1, heads + 2 * kvHeads, headSize); // [N, H + 2G, D]
    const [q, k, v] = qkv.split([heads, kvHeads, kvHeads], 1) as [Tensor, Tensor, Tensor];
    const [queries, keys] = [rotate(q, angles), rotate(k, angles)];
    return this.oProj.forward(packedAttention(queries, keys, v, sequences, { layer, window: this.#window }));
  }
}

class Phi3Mlp extends Module {
  readonly gateUpProj: Linear;
  readonly downProj: Linear;
  readonly #gate: Activation;

  constructor({ hiddenSize, intermediateSize, hiddenAct, initializerRange }: Phi3Config) {
    super();
    const init = normal(initializerRange);
    this.gateUpProj = new Linear(hiddenSize, 2 * intermediateSize, { bias: false, init });
    this.downProj = new Linear(intermediateSize, hiddenSize, { bias: false, init });
    this.#gate = activations[hiddenAct];
  }

  forward(x: Tensor): Tensor {
    const y = this.gateUpProj.forward(x);
    const [gate, up] = y.split([y.size(1) / 2, y.size(1) / 2], 1) as [Tensor, Tensor];
    return this.downProj.forward(this.#gate(gate, up));
  }
}

class Phi3Block extends Module {
  readonly selfAttn: Phi3Attention;
  readonly mlp: Phi3Mlp;
  readonly inputLayernorm: RmsNorm;
  readonly postAttentionLayernorm: RmsNorm;

  constructor(config: Phi3Config) {
    super();
    const { hiddenSize, rmsNormEps: eps } = config;
    this.selfAttn = new Phi3Attention(config);
    this.mlp = new Phi3Mlp(config);
    this.inputLayernorm = new RmsNorm(hiddenSize, { eps });
    this.postAttentionLayernorm = new RmsNorm(hiddenSize, { eps });
  }

  forward(x: Tensor, angles: RotaryAngles, sequences: Sequences, layer: number): Tensor {
    const h = wantedRows(x, sequences).add(this.selfAttn.forward(this.inputLayernorm.forward(x), angles, sequences, layer));
    return h.add(this.mlp.forward(this.postAttentionLayernorm.forward(h)));
  }
}

/** Phi-3, Phi-3.5 and Phi-4 mini: Llama with fused projections and LongRoPE. Abdin et al. 2024, arXiv:2404.14219. */
export class Phi3 extends LanguageModel {
  readonly embedTokens: Embedding;
  readonly layers: readonly Phi3Block[];
  readonly norm: RmsNorm;
  readonly lmHead: Linear | undefined;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly #heads: HeadSizes;
  readonly #rotary: { readonly short: Rotary; readonly long?: Rotary };
  readonly #shortLength: number;

  constructor(config: Phi3Config) {
    super();
    const { vocabSize, hiddenSize } = config;
    const init = normal(config.initializerRange);
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.embedTokens = new Embedding(vocabSize, hiddenSize, { init });
    this.layers = Array.from({ length: config.numHiddenLayers }, () => new Phi3Block(config));
    this.norm = new RmsNorm(hiddenSize, { eps: config.rmsNormEps });
    this.lmHead = config.tieWordEmbeddings ? undefined : new Linear(hiddenSize, vocabSize, { bias: false, init });
    this.#heads = headSizes(config);
    this.#rotary = rotariesOf(config);
    this.#shortLength = config.originalMaxPositionEmbeddings;
  }

  embed(ids: Tensor): Tensor {
    return this.embedTokens.forward(ids);
  }

  /** Each sequence turns by its own length. Throws ShapeError for one whose cache was filled by other frequencies than it now needs. */
  #angles(sequences: Sequences, x: Tensor): RotaryAngles {
    const { short, long } = this.#rotary;
    const at = positions(sequences);
    const isLong = sequences.lengths.map((length, index) => {
      const seen = sequences.caches?.[index]?.length ?? 0;
      const grown = length > 0 && seen + length > this.#shortLength;
      if (long && grown && seen > 0 && seen <= this.#shortLength) {
        throw new ShapeError(`a sequence grows from ${seen} cached tokens to ${seen + length}, past ${this.#shortLength}`, {
          hint: 'its frequencies change there: compute it anew as a whole, without the cache',
        });
      }
      return grown;
    });
    if (!long || !isLong.includes(true)) return short.at(at, x);
    if (!isLong.includes(false)) return long.at(at, x);
    const rows = sequences.lengths.flatMap((length, index) => new Array<boolean>(length).fill(isLong[index] ?? false));
    const chosen = tensor(Uint8Array.from(rows, Number), { device: x.device }).ne(0).unsqueeze(1); // [N, 1]
    const [a, b] = [long.at(at, x), short.at(at, x)];
    return { cos: where(chosen, a.cos, b.cos), sin: where(chosen, a.sin, b.sin) };
  }

  forward(x: Tensor, sequences: Sequences): Tensor {
    const angles = this.#angles(sequences, x);
    return this.norm.forward(this.run(this.layers, x, sequences, (layer, h, own, index) => layer.forward(h, angles, own, index)));
  }

  get headWeight(): Tensor {
    return (this.lmHead ?? this.embedTokens).weight;
  }

  override cacheServes(length: number, other: number): boolean {
    return this.#rotary.long === undefined || length > this.#shortLength === other > this.#shortLength;
  }

  createCache(options: { capacity?: number } = {}): KvCache {
    const { dtype, device } = this.embedTokens.weight;
    const { kvHeads, headSize } = this.#heads;
    return new KvCache({ layers: this.layers.length, kvHeads, headSize, dtype, device, ...options });
  }
}

/** Early files call LongRoPE `su` or `yarn`; the original length stands beside the rotary settings, and since transformers 5 in them, too. */
function readLongRope(json: Json): Json {
  const { rope_parameters, ...rest } = readPartialRope(json);
  const { rope_type, original_max_position_embeddings: inner, ...parameters } = rope_parameters as Json;
  const original = json['original_max_position_embeddings'] ?? inner;
  return {
    ...rest,
    rope_parameters: { ...parameters, rope_type: rope_type === 'su' || rope_type === 'yarn' ? 'longrope' : rope_type },
    ...(original === undefined ? {} : { original_max_position_embeddings: original }),
  };
}

function writeLongRope(json: Json): Json {
  const { rope_parameters, rope_scaling, ...rest } = writePartialRope(json);
  const { original_max_position_embeddings } = json;
  if (rope_scaling === null) return { ...rest, rope_parameters, rope_scaling };
  const { rope_type, ...scaling } = rope_scaling as Json;
  return {
    ...rest,
    rope_parameters: { ...(rope_parameters as Json), original_max_position_embeddings },
    // transformers 4 takes these three fields and no more.
    rope_scaling: { ...scaling, type: rope_type },
  };
}

/** The registry entry of Phi-3. */
export const phi3 = part({
  modelType: 'phi3',
  schema: Phi3Config,
  make: Phi3,
  read: readLongRope,
  write: (json) => ({ architectures: ['Phi3ForCausalLM'], ...writeLongRope(json) }),
  inTransformers: () => true,
});
