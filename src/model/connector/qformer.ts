import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { activationNames, activations } from '../../nn/activation.ts';
import { normal, ones, zeros } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { type KeyTable, Module, parameter } from '../../nn/module.ts';
import { multiHeadAttention } from '../../nn/multi-head.ts';
import { LayerNorm, Norm } from '../../nn/norm.ts';
import { full } from '../../tensor/create.ts';
import { layerNorm } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';

/** Settings of the Q-Former; the defaults are those of BLIP-2. */
export const QFormerConfig = z.strictObject({
  type: z.literal('qformer'),
  /** Tokens that come out. */
  numQueries: z.int().positive().default(32),
  hiddenSize: z.int().positive().default(768),
  intermediateSize: z.int().positive().default(3072),
  numHiddenLayers: z.int().positive().default(12),
  numAttentionHeads: z.int().positive().default(12),
  /** Every so many layers, beginning with the first, look at the image. */
  crossAttentionFrequency: z.int().positive().default(2),
  hiddenAct: z.enum(activationNames).default('gelu'),
  layerNormEps: z.number().positive().default(1e-12),
  /** Whether the norm of the queries has a gain and an offset; TinyLLaVA Factory's has neither. */
  queryNormAffine: z.boolean().default(true),
});
export type QFormerConfig = z.output<typeof QFormerConfig>;

const init = normal(0.02);

class Projections extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;

  constructor(width: number, context: number) {
    super();
    this.query = new Linear(width, width, { init });
    this.key = new Linear(context, width, { init });
    this.value = new Linear(context, width, { init });
  }
}

/** A linear layer whose result is added to what came before, and normalized after, as in BERT. */
class Output extends Module {
  readonly dense: Linear;
  readonly norm: LayerNorm;

  constructor(inputs: number, { hiddenSize, layerNormEps }: QFormerConfig) {
    super();
    this.dense = new Linear(inputs, hiddenSize, { init });
    this.norm = new LayerNorm(hiddenSize, { eps: layerNormEps });
  }

  protected override get keys(): KeyTable {
    return { norm: 'LayerNorm' };
  }

  forward(x: Tensor, residual: Tensor): Tensor {
    return this.norm.forward(this.dense.forward(x).add(residual));
  }
}

/** Dims: B images, M queries, S tokens that they look at, C width. */
class Attention extends Module {
  readonly attention: Projections;
  readonly output: Output;
  readonly #heads: number;

  constructor(config: QFormerConfig, context: number) {
    super();
    this.attention = new Projections(config.hiddenSize, context);
    this.output = new Output(config.hiddenSize, config);
    this.#heads = config.numAttentionHeads;
  }

  forward(x: Tensor, context: Tensor): Tensor {
    const { query, key, value } = this.attention;
    const y = multiHeadAttention(query.forward(x), key.forward(context), value.forward(context), { heads: this.#heads });
    return this.output.forward(y, x);
  }
}

class Intermediate extends Module {
  readonly dense: Linear;

  constructor({ hiddenSize, intermediateSize }: QFormerConfig) {
    super();
    this.dense = new Linear(hiddenSize, intermediateSize, { init });
  }
}

class Layer extends Module {
  readonly attention: Attention;
  readonly crossattention: Attention | undefined;
  readonly intermediateQuery: Intermediate;
  readonly outputQuery: Output;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(config: QFormerConfig, { visionSize, looks }: { visionSize: number; looks: boolean }) {
    super();
    this.attention = new Attention(config, config.hiddenSize);
    this.crossattention = looks ? new Attention(config, visionSize) : undefined;
    this.intermediateQuery = new Intermediate(config);
    this.outputQuery = new Output(config.intermediateSize, config);
    this.#activation = activations[config.hiddenAct];
  }

  forward(queries: Tensor, features: Tensor): Tensor {
    const own = this.attention.forward(queries, queries);
    const x = this.crossattention?.forward(own, features) ?? own;
    return this.outputQuery.forward(this.#activation(this.intermediateQuery.dense.forward(x)), x);
  }
}

class Encoder extends Module {
  readonly layer: readonly Layer[];

  constructor(config: QFormerConfig, visionSize: number) {
    super();
    this.layer = Array.from(
      { length: config.numHiddenLayers },
      (_, i) => new Layer(config, { visionSize, looks: i % config.crossAttentionFrequency === 0 }),
    );
  }
}

class QueryNorm extends Norm {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(width: number) {
    super();
    this.weight = parameter([width], ones);
    this.bias = parameter([width], zeros);
  }
}

class QFormer extends Module {
  readonly layernorm: QueryNorm | undefined;
  readonly encoder: Encoder;

  constructor(config: QFormerConfig, visionSize: number) {
    super();
    this.layernorm = config.queryNormAffine ? new QueryNorm(config.hiddenSize) : undefined;
    this.encoder = new Encoder(config, visionSize);
  }
}

/** Learned queries that a small BERT lets look at the image. Li et al. 2023, arXiv:2301.12597. */
export class QFormerConnector extends Connector {
  readonly queryTokens: Tensor;
  readonly qformer: QFormer;
  readonly languageProjection: Linear;
  readonly #eps: number;

  constructor(config: QFormerConfig, { visionSize, languageSize }: ConnectorContext) {
    super();
    const { hiddenSize, numAttentionHeads, numQueries } = config;
    if (hiddenSize % numAttentionHeads !== 0) {
      throw new ConfigError(`qformer: hiddenSize ${hiddenSize} is not a multiple of the ${numAttentionHeads} attention heads`);
    }
    this.queryTokens = parameter([1, numQueries, hiddenSize], init);
    this.qformer = new QFormer(config, visionSize);
    this.languageProjection = new Linear(hiddenSize, languageSize);
    this.#eps = config.layerNormEps;
  }

  tokens(): number {
    return this.queryTokens.size(1);
  }

  forward(features: Tensor): Tensor {
    const [B] = sizes(features, 'B N C');
    const { layernorm, encoder } = this.qformer;
    const [, M, C] = sizes(this.queryTokens, '1 M C');
    const { dtype, device } = this.queryTokens;
    const normed = layerNorm(this.queryTokens, layernorm?.weight ?? full([C], 1, { dtype, device }), layernorm?.bias, this.#eps);
    let queries = normed.expand(B, M, C);
    for (const layer of encoder.layer) queries = layer.forward(queries, features);
    return this.languageProjection.forward(queries);
  }
}

/** The registry entry of the Q-Former. */
export const qformer = part({ modelType: 'qformer', schema: QFormerConfig, make: QFormerConnector });
