import { z } from 'zod';
import { normal } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { type KeyTable, Module, parameter } from '../../nn/module.ts';
import { multiHeadAttention } from '../../nn/multi-head.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import { gelu } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';

/** Settings of the perceiver resampler. */
export const ResamplerConfig = z.strictObject({
  type: z.literal('resampler'),
  /** Tokens that come out. */
  numQueries: z.int().positive().default(128),
  numLayers: z.int().positive().default(3),
  numAttentionHeads: z.int().positive().default(8),
  headSize: z.int().positive().default(64),
  /** Width of the feed-forward layers, in widths of the language model. */
  expansion: z.number().positive().default(4),
});
export type ResamplerConfig = z.output<typeof ResamplerConfig>;

/** Dims: B images, N tokens in, M latents, C width, I = heads · head size. */
class PerceiverAttention extends Module {
  readonly normMedia: LayerNorm;
  readonly normLatents: LayerNorm;
  readonly toQ: Linear;
  readonly toKv: Linear;
  readonly toOut: Linear;
  readonly #heads: number;

  constructor(width: number, { numAttentionHeads, headSize }: ResamplerConfig) {
    super();
    const inner = numAttentionHeads * headSize;
    this.normMedia = new LayerNorm(width);
    this.normLatents = new LayerNorm(width);
    this.toQ = new Linear(width, inner, { bias: false });
    this.toKv = new Linear(width, 2 * inner, { bias: false });
    this.toOut = new Linear(inner, width, { bias: false });
    this.#heads = numAttentionHeads;
  }

  forward(media: Tensor, x: Tensor): Tensor {
    const latents = this.normLatents.forward(x);
    const inner = this.toQ.weight.size(0);
    const [k, v] = this.toKv.forward(cat([this.normMedia.forward(media), latents], 1)).split([inner, inner], 2) as [Tensor, Tensor]; // [B, N + M, I]
    return this.toOut.forward(multiHeadAttention(this.toQ.forward(latents), k, v, { heads: this.#heads }));
  }
}

class FeedForward extends Module {
  readonly norm: LayerNorm;
  readonly up: Linear;
  readonly down: Linear;

  constructor(width: number, expansion: number) {
    super();
    this.norm = new LayerNorm(width);
    this.up = new Linear(width, Math.floor(width * expansion), { bias: false });
    this.down = new Linear(Math.floor(width * expansion), width, { bias: false });
  }

  forward(x: Tensor): Tensor {
    return this.down.forward(gelu(this.up.forward(this.norm.forward(x))));
  }
}

class Layer extends Module {
  readonly attention: PerceiverAttention;
  readonly feedForward: FeedForward;

  constructor(width: number, config: ResamplerConfig) {
    super();
    this.attention = new PerceiverAttention(width, config);
    this.feedForward = new FeedForward(width, config.expansion);
  }

  // Published weights number what they hold.
  protected override get keys(): KeyTable {
    return { attention: '0', 'feed_forward.norm': '1.0', 'feed_forward.up': '1.1', 'feed_forward.down': '1.3' };
  }

  forward(media: Tensor, latents: Tensor): Tensor {
    const x = this.attention.forward(media, latents).add(latents);
    return this.feedForward.forward(x).add(x);
  }
}

/** Latents that look at the image's tokens and at themselves, layer by layer. Alayrac et al. 2022, arXiv:2204.14198, as TinyLLaVA Factory has it. */
export class ResamplerConnector extends Connector {
  readonly latents: Tensor;
  readonly linear: Linear;
  readonly layers: readonly Layer[];
  readonly norm: LayerNorm;

  constructor(config: ResamplerConfig, { visionSize, languageSize }: ConnectorContext) {
    super();
    this.latents = parameter([config.numQueries, languageSize], normal(1));
    this.linear = new Linear(visionSize, languageSize);
    this.layers = Array.from({ length: config.numLayers }, () => new Layer(languageSize, config));
    this.norm = new LayerNorm(languageSize);
  }

  tokens(): number {
    return this.latents.size(0);
  }

  forward(features: Tensor): Tensor {
    const [B] = sizes(features, 'B N C');
    const media = this.linear.forward(features);
    let latents = this.latents.expand(B, this.latents.size(0), this.latents.size(1)); // [B, M, C]
    for (const layer of this.layers) latents = layer.forward(media, latents);
    return this.norm.forward(latents);
  }
}

/** The registry entry of the perceiver resampler. */
export const resampler = part({ modelType: 'resampler', schema: ResamplerConfig, make: ResamplerConnector });
