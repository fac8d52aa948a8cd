import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import { parts as everyPart, type Parts, type TinyLlavaConfig } from './config.ts';
import type { Json, Part, PartConfig } from './part.ts';
import { check, pick } from './registry.ts';

const Section = z.record(z.string(), z.unknown());

/** The fields of a LLaVA's config.json beside its sections, with the defaults of transformers' LlavaConfig. */
const LlavaFields = z.looseObject({
  text_config: Section.nullish(),
  vision_config: Section.nullish(),
  image_token_index: z.int().optional(),
  image_token_id: z.int().optional(),
  projector_hidden_act: z.string().default('gelu'),
  multimodal_projector_bias: z.boolean().default(true),
  vision_feature_layer: z.union([z.int(), z.array(z.int())]).default(-2),
  vision_feature_select_strategy: z.enum(['default', 'full']).default('default'),
  tie_word_embeddings: z.boolean().nullish(),
  connector_config: z.looseObject({ model_type: z.string() }).optional(),
});

/** What LlavaConfig takes for a tower when the file names none: CLIP-L/14 at 336 pixels. */
const clipLarge = {
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  image_size: 336,
  patch_size: 14,
};

type Registry<Made, Context> = Readonly<Record<string, Part<Made, Context>>>;

function read<Made, Context>(registry: Registry<Made, Context>, what: string, json: Json, fallback: string, where: string): PartConfig {
  const modelType = String(json['model_type'] ?? fallback);
  const types = new Map(Object.entries(registry).map(([type, { modelType }]) => [modelType, type]));
  const type = types.get(modelType) ?? pick(Object.fromEntries(types), what, modelType);
  return pick(registry, what, type).fromJson(json, type, where);
}

/**
 * Settings from the config.json of a LLaVA, of `tinyllava` (the same with parts that transformers lacks), or of a language model alone.
 * Fields that the file leaves out get the defaults that transformers gives them. `where` names the file. Throws ConfigError.
 */
export function configFromJson(json: Json, where: string, parts: Parts = everyPart): TinyLlavaConfig {
  const modelType = String(json['model_type']);
  if (modelType !== 'llava' && modelType !== 'tinyllava') {
    return { language: read(parts.languageModels, 'language model', json, '', where) };
  }
  const fields = check(LlavaFields, json, where);
  const tied = fields.tie_word_embeddings || fields.text_config?.['tie_word_embeddings'] || false;
  const text = { ...fields.text_config, tie_word_embeddings: tied };
  const { vision_feature_layer, vision_feature_select_strategy } = fields;
  const vision = { ...(fields.vision_config ?? clipLarge), vision_feature_layer, vision_feature_select_strategy };
  const projector = { hidden_act: fields.projector_hidden_act, bias: fields.multimodal_projector_bias, layers: 2 };
  return {
    language: read(parts.languageModels, 'language model', text, 'llama', `${where}: text_config`),
    vision: read(parts.visionTowers, 'vision tower', vision, 'clip_vision_model', `${where}: vision_config`),
    connector: read(parts.connectors, 'connector', fields.connector_config ?? projector, 'mlp', `${where}: connector`),
    imageTokenId: fields.image_token_index ?? fields.image_token_id ?? 32_000,
  };
}

/** Settings of a tower from its own config.json, or from that of a CLIP, SigLIP or LLaVA that has it as `vision_config`. Throws ConfigError. */
export function visionFromJson(json: Json, where: string, { visionTowers }: Parts = everyPart): PartConfig {
  const { vision_feature_layer, vision_feature_select_strategy } = json;
  const inner = check(Section.optional(), json['vision_config'], `${where}: vision_config`);
  const outer = { clip: 'clip_vision_model', siglip: 'siglip_vision_model' }[String(json['model_type'])];
  const chosen = {
    ...(vision_feature_layer === undefined ? {} : { vision_feature_layer }),
    ...(vision_feature_select_strategy === undefined ? {} : { vision_feature_select_strategy }),
  };
  return read(visionTowers, 'vision tower', inner ? { ...inner, ...chosen } : json, outer ?? 'clip_vision_model', where);
}

/** The config.json of a model: transformers' own layout wherever it has the parts, else `model_type` "tinyllava". */
export function configToJson(
  { language, vision, connector, imageTokenId }: TinyLlavaConfig,
  { dtype, imageTokens, parts = everyPart }: { dtype: string; imageTokens: number; parts?: Parts },
): Json {
  const languageModel = pick(parts.languageModels, 'language model', language.type);
  const text = languageModel.toJson(language);
  if (!vision || !connector) return { ...text, dtype };
  const tower = pick(parts.visionTowers, 'vision tower', vision.type);
  const joint = pick(parts.connectors, 'connector', connector.type);
  const { vision_feature_layer = -1, vision_feature_select_strategy = 'full', ...visionConfig } = tower.toJson(vision);
  const known = languageModel.inTransformers(language) && tower.inTransformers(vision) && joint.inTransformers(connector);
  return {
    architectures: ['LlavaForConditionalGeneration'],
    model_type: known ? 'llava' : 'tinyllava',
    dtype,
    image_token_index: imageTokenId,
    image_seq_length: imageTokens,
    vision_feature_layer,
    vision_feature_select_strategy,
    ...(known
      ? { projector_hidden_act: connector['hiddenAct'], multimodal_projector_bias: connector['bias'] }
      : { connector_config: joint.toJson(connector) }),
    tie_word_embeddings: text['tie_word_embeddings'] ?? false,
    text_config: text,
    vision_config: visionConfig,
  };
}

/** Throws ConfigError unless a parsed file is a JSON object. */
export function asJson(value: unknown, where: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new ConfigError(`${where}: expected a JSON object`);
}
