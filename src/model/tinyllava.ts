import { ShapeError, TinyLlavaError } from '../errors.ts';
import type { KvCache } from '../nn/kv-cache.ts';
import { type KeyTable, Module } from '../nn/module.ts';
import { cat, indices, tensor } from '../tensor/create.ts';
import { linear } from '../tensor/functional.ts';
import { sizes } from '../tensor/sizes.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Unpad } from './arrangement.ts';
import { parts as everyPart, type Parts, parseConfig, type TinyLlavaConfig } from './config.ts';
import type { Connector } from './connector/connector.ts';
import { type ImageLayout, viewsOf, wholeImage } from './image-layout.ts';
import type { LanguageModel } from './language/language-model.ts';
import { pick } from './registry.ts';
import { placeholders, splice } from './splice.ts';
import type { VisionTower } from './vision/vision-tower.ts';

/** Packed sequences, one behind the other. Dims: N tokens of all sequences, V views of all images, K embeddings of all images, C width. */
export interface ModelBatch {
  /** Token ids [N]; an image is its placeholder repeated once for every embedding. */
  readonly ids: Int32Array;
  /** Tokens of each sequence; their sum is N. */
  readonly lengths: readonly number[];
  /** Normalized views [V, 3, H, W] in the order of their placeholders. */
  readonly pixels?: Tensor | undefined;
  /** What the vision tower gave for the views, [V, N, C], in place of `pixels`. */
  readonly towerFeatures?: Tensor | undefined;
  /** How the views make images; each is a whole image unless said otherwise. */
  readonly layouts?: readonly ImageLayout[] | undefined;
  /** What `imageEmbeddings` gave for them, [..., C] of K rows, in place of `pixels`. */
  readonly imageFeatures?: Tensor | undefined;
  /** One cache a sequence: the tokens continue what the caches hold, and are added to them. */
  readonly caches?: readonly KvCache[] | undefined;
  /** The packed rows whose hidden states are wanted, unless all are: behind its attention the last layer computes no others. */
  readonly wanted?: readonly number[] | undefined;
}

/** A vision tower, a connector and a language model: LLaVA's architecture. Liu et al. 2023, arXiv:2304.08485. */
export class TinyLlava extends Module {
  readonly visionTower: VisionTower | undefined;
  readonly connector: Connector | undefined;
  readonly arrangement: Unpad | undefined;
  readonly languageModel: LanguageModel;
  readonly #config: TinyLlavaConfig;

  constructor(config: TinyLlavaConfig, { visionTowers, connectors, languageModels }: Parts = everyPart) {
    super();
    const { language, vision, connector, arrangement } = config;
    this.languageModel = pick(languageModels, 'language model', language.type).create(language, undefined);
    if (vision && connector) {
      const tower = pick(visionTowers, 'vision tower', vision.type).create(vision, undefined);
      const context = { visionSize: tower.hiddenSize, visionTokens: tower.tokens, languageSize: this.languageModel.hiddenSize };
      this.visionTower = tower;
      this.connector = pick(connectors, 'connector', connector.type).create(connector, context);
      const shown = { viewTokens: this.viewTokens, width: context.languageSize };
      this.arrangement = arrangement && new Unpad(arrangement, shown);
    }
    this.#config = config;
  }

  /** Tokens of a sequence that the language model was made for; none are too many where its settings name no number. */
  get contextTokens(): number {
    const { maxPositionEmbeddings, maxContextLength } = this.#config.language;
    return Number(maxPositionEmbeddings ?? maxContextLength ?? Number.POSITIVE_INFINITY);
  }

  /** The settings it was made from. */
  get config(): TinyLlavaConfig {
    return this.#config;
  }

  // A language model alone has the keys of LlamaForCausalLM, else those of LlavaForConditionalGeneration.
  protected override get keys(): KeyTable {
    return {
      vision_tower: 'model.vision_tower',
      connector: 'model.multi_modal_projector',
      arrangement: 'model',
      language_model: this.visionTower ? 'model.language_model' : this.languageModel.prefix,
      'language_model.lm_head': 'lm_head',
    };
  }

  /** Embeddings that the connector makes of one view; 0 for a language model alone. */
  get viewTokens(): number {
    return this.connector?.tokens(this.visionTower?.tokens ?? 0) ?? 0;
  }

  /** Embeddings that an image takes that is shown as a whole; 0 for a language model alone. */
  get imageTokens(): number {
    return this.arrangement?.tokens(wholeImage) ?? this.viewTokens;
  }

  /** Embeddings that an image of this layout takes: one number for each run of them that nothing interrupts. */
  imageRuns(layout: ImageLayout): readonly number[] {
    if (this.arrangement) return [this.arrangement.tokens(layout)];
    return new Array<number>(viewsOf(layout)).fill(this.viewTokens);
  }

  /** Normalized views [V, 3, H, W] to the embeddings [V, M, C] that the connector makes of them. */
  encodeImages(pixels: Tensor): Tensor {
    if (!this.visionTower || !this.connector) {
      throw new TinyLlavaError('this model is a language model alone: it takes no images');
    }
    return this.connector.forward(this.visionTower.forward(pixels));
  }

  /** The second half of `encodeImages`, for features [V, N, C] that the vision tower gave. */
  connectFeatures(features: Tensor): Tensor {
    if (!this.connector) throw new TinyLlavaError('this model is a language model alone: it takes no images');
    return this.connector.forward(features);
  }

  /** What stands for each image in the language model, [K, C] for its own K, from the views of all as `encodeImages` gave them, [V, M, C]. */
  imageEmbeddings(views: Tensor, layouts: readonly ImageLayout[] = new Array<ImageLayout>(views.size(0)).fill(wholeImage)): Tensor[] {
    const counts = layouts.map(viewsOf);
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (total !== views.size(0)) throw new ShapeError(`${views.size(0)} views of images, but the layouts have ${total}`);
    let start = 0;
    return layouts.map((layout, i) => {
      const own = views.narrow(0, start, counts[i] ?? 0);
      start += counts[i] ?? 0;
      return this.arrangement?.forward(own, layout) ?? own.flatten(0, 1);
    });
  }

  /** Hidden states [N, C] behind the language model's final norm, or of the wanted rows [K, C]. Throws ShapeError when ids, lengths or images do not fit together. */
  hidden({ ids, lengths, pixels, towerFeatures, layouts, imageFeatures, caches, wanted }: ModelBatch): Tensor {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (total !== ids.length) throw new ShapeError(`lengths add up to ${total} tokens, got ${ids.length} ids`);
    if (caches && caches.length !== lengths.length) throw new ShapeError(`${lengths.length} sequences, but ${caches.length} caches`);
    const views = towerFeatures ? this.connectFeatures(towerFeatures) : pixels && this.encodeImages(pixels);
    const x = this.#embed(ids, imageFeatures ?? (views && this.#arranged(views, layouts)));
    const hidden = this.languageModel.forward(x, { lengths, caches, wanted: wanted && indices(wanted).to({ device: x.device }) });
    sizes(hidden, 'K C', { K: wanted?.length ?? total });
    return hidden;
  }

  /** The embeddings of all images in order; views that are simply one behind the other need no arranging. */
  #arranged(views: Tensor, layouts: readonly ImageLayout[] | undefined): Tensor {
    return this.arrangement ? cat(this.imageEmbeddings(views, layouts)) : views;
  }

  #embed(ids: Int32Array, features: Tensor | undefined): Tensor {
    const { languageModel } = this;
    const { device } = languageModel.headWeight;
    const { imageTokenId } = this.#config;
    const rows = imageTokenId === undefined ? [] : placeholders(ids, imageTokenId);
    if (rows.length > 0 && !features) {
      throw new ShapeError(`${rows.length} image placeholders in the batch, but no images`, {
        hint: 'give pixels or imageFeatures, or keep the image token out of the text',
      });
    }
    if (rows.length === 0 && !features) return languageModel.embed(tensor(ids, { dtype: 'int64', device }));
    // The placeholder need not be in the vocabulary: its own embedding is never seen.
    const seen = ids.slice();
    for (const row of rows) seen[row] = 0;
    const embeddings = languageModel.embed(tensor(seen, { dtype: 'int64', device }));
    return features ? splice(embeddings, rows, features) : embeddings;
  }

  /** Scores [K, V] of the next token, in float32, for rows [K, C] of the hidden states. */
  logits(hidden: Tensor): Tensor {
    const { headWeight, headBias, logitCap } = this.languageModel;
    const logits = linear(hidden, headWeight, headBias).cast('float32');
    return logitCap === undefined ? logits : logits.div(logitCap).tanh().mul(logitCap);
  }
}

/** A model without memory from settings as `parseConfig` reads them; `initialize` or a checkpoint gives it values. Throws ConfigError. */
export function createTinyLlava(config: unknown, parts: Parts = everyPart): TinyLlava {
  return new TinyLlava(parseConfig(config, parts), parts);
}
