import type { WeightSource } from '../../tensor/safetensors.ts';
import type { KeyRows } from '../dialect.ts';
import type { Json } from '../part.ts';
import { type ProcessorHints, preprocessorOf } from './processor-hints.ts';

/** A layout in which others published their models, recognised by what config.json says. */
export interface PublishedDialect {
  /** Whether a config.json is of this layout. */
  matches(config: Json): boolean;
  /** The config.json of a LLaVA of ours; `weights` show the sizes that `config` leaves out. Throws ConfigError or CheckpointError. */
  read(config: Json, weights: WeightSource, file: string): Json;
  /** From its keys to those of LlavaForConditionalGeneration. */
  readonly rows: KeyRows;
  /** What to read where the folder has no preprocessor_config.json or chat template; `json` is what `read` gave. */
  readonly processor?: (json: Json, config: Json) => ProcessorHints;
  /** The weights cut up where one tensor of theirs is several of ours. */
  readonly adapt?: (weights: WeightSource) => WeightSource;
}

/** The hints of LLaVA and its heirs: CLIP's or SigLIP's own image processor, on squares where the config asks for them, and Vicuna's turns. */
export function llavaProcessor({ vision_config }: Json, { image_aspect_ratio }: Json): ProcessorHints {
  const preprocessor = preprocessorOf(vision_config as Json, { pad: image_aspect_ratio === 'pad' });
  return { template: 'vicuna', ...(preprocessor && { preprocessor }) };
}

/** How many different numbers stand behind `prefix` in the names of the weights. */
export function countLayers(weights: WeightSource, prefix: string): number {
  const numbers = weights.names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length).split('.')[0]);
  return new Set(numbers).size;
}

/** A size of a tensor, 0 where it has fewer dimensions. Throws CheckpointError where there is none of that name. */
export function sizeOf(weights: WeightSource, name: string, dim: number): number {
  return weights.shape(name)[dim] ?? 0;
}

/** An id for image placeholders in models whose vocabulary has none: the first one behind the embeddings. */
export function placeholderId(weights: WeightSource): number | undefined {
  const name = weights.names.find((key) => /\b(embed_tokens|token_embeddings)\.weight$/.test(key));
  return name === undefined ? undefined : sizeOf(weights, name, 0);
}

/** A layer of 64 is one head in every ViT published for these models but SigLIP-so400m, of 16 heads of 72. */
const headsOf = (width: number): number => width / (width === 1152 ? 72 : 64);

/** The section of config.json of a CLIP or SigLIP that only its weights describe, their names beginning with `prefix`. */
export function vitSizes(weights: WeightSource, prefix: string): Json {
  const patches = `${prefix}embeddings.patch_embedding.weight`;
  const [hidden_size, patch_size] = [sizeOf(weights, patches, 0), sizeOf(weights, patches, 2)];
  const positions = sizeOf(weights, `${prefix}embeddings.position_embedding.weight`, 0);
  const classTokens = weights.names.includes(`${prefix}embeddings.class_embedding`) ? 1 : 0;
  return {
    hidden_size,
    patch_size,
    image_size: Math.sqrt(positions - classTokens) * patch_size,
    intermediate_size: sizeOf(weights, `${prefix}encoder.layers.0.mlp.fc1.weight`, 0),
    num_hidden_layers: countLayers(weights, `${prefix}encoder.layers.`),
    num_attention_heads: headsOf(hidden_size),
  };
}

/** The same for a DINOv2. */
export function dinov2Sizes(weights: WeightSource, prefix: string): Json {
  const patches = `${prefix}embeddings.patch_embeddings.projection.weight`;
  const [hidden_size, patch_size] = [sizeOf(weights, patches, 0), sizeOf(weights, patches, 2)];
  const use_swiglu_ffn = weights.names.includes(`${prefix}encoder.layer.0.mlp.weights_in.weight`);
  return {
    hidden_size,
    patch_size,
    image_size: Math.sqrt(sizeOf(weights, `${prefix}embeddings.position_embeddings`, 1) - 1) * patch_size,
    num_hidden_layers: countLayers(weights, `${prefix}encoder.layer.`),
    num_attention_heads: headsOf(hidden_size),
    use_swiglu_ffn,
    use_mask_token: weights.names.includes(`${prefix}embeddings.mask_token`),
    // The gated perceptron is narrower than its ratio says; the one of that kind that is published has 4.
    mlp_ratio: use_swiglu_ffn ? 4 : sizeOf(weights, `${prefix}encoder.layer.0.mlp.fc1.weight`, 0) / hidden_size,
  };
}
