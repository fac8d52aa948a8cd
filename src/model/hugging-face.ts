import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import { type ArrangementConfig, parseArrangement } from './arrangement.ts';
import { parts as everyPart, type Parts, type TinyLlavaConfig } from './config.ts';
import { families, familyNames } from './families.ts';
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
  image_grid_pinpoints: z.unknown().optional(),
  vision_aspect_ratio: z.string().optional(),
  family: z.enum(familyNames).optional(),
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

/** Where a section stands: its file, and its field there unless it is the whole file. */
interface Place {
  readonly file: string;
  readonly where?: string;
}

function read<Made, Context>(kinds: Readonly<Record<string, Part<Made, Context>>>, what: string, json: Json, place: Place): PartConfig {
  const byModelType = Object.fromEntries(Object.entries(kinds).map(([type, kind]) => [kind.modelType, { type, kind }]));
  const { type, kind } = pick(byModelType, what, String(json['model_type']), place);
  return kind.fromJson(json, type, place);
}

function isLlava(json: Json): boolean {
  return json['model_type'] === 'llava' || json['model_type'] === 'tinyllava';
}

function readTower(fields: z.output<typeof LlavaFields>, file: string, { visionTowers }: Parts): PartConfig {
  const { vision_feature_layer, vision_feature_select_strategy, vision_config } = fields;
  const section = {
    model_type: 'clip_vision_model',
    ...(vision_config ?? clipLarge),
    vision_feature_layer,
    vision_feature_select_strategy,
  };
  return read(visionTowers, 'vision tower', section, { file, where: 'vision_config' });
}

/** How views are arranged: LLaVA-1.6 and LLaVA-OneVision name the resolutions of their tiles, the latter how many tiles count as many. */
function readArrangement({ image_grid_pinpoints: pinpoints, vision_aspect_ratio }: z.output<typeof LlavaFields>, file: string) {
  if (pinpoints === undefined || pinpoints === null) return {};
  const most = /^anyres_max_(\d+)$/.exec(vision_aspect_ratio ?? '')?.[1];
  const arrangement = { type: 'unpad', pinpoints, ...(most !== undefined && { maxTiles: Number(most) }) };
  return { arrangement: parseArrangement(arrangement, `${file}: image_grid_pinpoints`) };
}

/**
 * Settings from the config.json of a LLaVA, of `tinyllava` (the same with parts that transformers lacks), or of a language model alone.
 * Fields that the file leaves out get the defaults that transformers gives them. Throws ConfigError.
 */
export function configFromJson(json: Json, file: string, parts: Parts = everyPart): TinyLlavaConfig {
  if (!isLlava(json)) return { language: read(parts.languageModels, 'language model', json, { file }) };
  const fields = check(LlavaFields, json, { file });
  const tied = fields.tie_word_embeddings ? { tie_word_embeddings: true } : {};
  const text = { model_type: 'llama', ...fields.text_config, ...tied };
  const projector = { model_type: 'mlp', hidden_act: fields.projector_hidden_act, bias: fields.multimodal_projector_bias, layers: 2 };
  return {
    language: read(parts.languageModels, 'language model', text, { file, where: 'text_config' }),
    vision: readTower(fields, file, parts),
    connector: read(parts.connectors, 'connector', fields.connector_config ?? projector, { file, where: 'connector_config' }),
    imageTokenId: fields.image_token_index ?? fields.image_token_id ?? 32_000,
    ...readArrangement(fields, file),
    ...(fields.family && { family: fields.family }),
  };
}

/** Models of an image and a text encoder, whose image encoder is called <model>_vision_model. */
const whole = ['clip', 'siglip', 'siglip2'];

/** Settings of a tower from its own config.json, or from that of a CLIP, SigLIP (1 or 2) or LLaVA that has it inside. Throws ConfigError. */
export function visionFromJson(json: Json, file: string, parts: Parts = everyPart): PartConfig {
  const modelType = json['model_type'];
  if (isLlava(json)) return readTower(check(LlavaFields, json, { file }), file, parts);
  if (!whole.includes(String(modelType))) return read(parts.visionTowers, 'vision tower', json, { file });
  const inner = check(Section.default({}), json['vision_config'], { file, where: 'vision_config' });
  return read(parts.visionTowers, 'vision tower', { model_type: `${modelType}_vision_model`, ...inner }, { file, where: 'vision_config' });
}

/** The config.json of a model: transformers' own layout wherever it has the parts, else `model_type` "tinyllava". */
export function configToJson(
  { language, vision, connector, arrangement, family, imageTokenId }: TinyLlavaConfig,
  { dtype, imageTokens, parts = everyPart }: { dtype: string; imageTokens: number; parts?: Parts },
): Json {
  const languageModel = pick(parts.languageModels, 'language model', language.type);
  const text = languageModel.toJson(language);
  if (!vision || !connector) return { ...text, dtype };
  const tower = pick(parts.visionTowers, 'vision tower', vision.type);
  const joint = pick(parts.connectors, 'connector', connector.type);
  const { vision_feature_layer = -1, vision_feature_select_strategy = 'full', ...visionConfig } = tower.toJson(vision);
  const known = languageModel.inTransformers(language) && tower.inTransformers(vision) && joint.inTransformers(connector);
  const ours = {
    ...(known ? kindOf(arrangement) : { architectures: ['LlavaForConditionalGeneration'], model_type: 'tinyllava' }),
    dtype,
    image_token_index: imageTokenId,
    image_seq_length: imageTokens,
    vision_feature_layer,
    vision_feature_select_strategy,
    ...(arrangement && { image_grid_pinpoints: arrangement.pinpoints }),
    ...(arrangement?.maxTiles !== undefined && { vision_aspect_ratio: `anyres_max_${arrangement.maxTiles}` }),
    ...(known
      ? { projector_hidden_act: connector['hiddenAct'], multimodal_projector_bias: connector['bias'] }
      : { connector_config: joint.toJson(connector) }),
    tie_word_embeddings: text['tie_word_embeddings'] ?? false,
    text_config: text,
    vision_config: visionConfig,
  };
  return family ? families[family].json(ours) : ours;
}

/** Which of transformers' LLaVAs has this arrangement. */
function kindOf(arrangement: ArrangementConfig | undefined): { architectures: string[]; model_type: string } {
  const [name, model_type] =
    arrangement === undefined
      ? ['Llava', 'llava']
      : arrangement.maxTiles === undefined
        ? ['LlavaNext', 'llava_next']
        : ['LlavaOnevision', 'llava_onevision'];
  return { architectures: [`${name}ForConditionalGeneration`], model_type };
}

const floats = /("(?:attn|final)_logit_softcapping": -?\d+)(?=[,\n])/g;

/** The text of a config.json. Python takes 30 for an integer, and transformers 5 refuses one where it wants 30.0. */
export function jsonText(json: Json): string {
  return `${JSON.stringify(json, null, 2).replace(floats, '$1.0')}\n`;
}

/** Throws ConfigError unless a parsed file is a JSON object. */
export function asJson(value: unknown, where: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new ConfigError(`${where}: expected a JSON object`);
}
