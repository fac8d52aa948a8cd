import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../../errors.ts';
import { parts } from '../../model/config.ts';
import { factory } from '../../model/dialects/factory.ts';
import { configFromJson, jsonText } from '../../model/hugging-face.ts';
import type { Json, PartConfig } from '../../model/part.ts';
import { pick } from '../../model/registry.ts';
import type { DType } from '../../tensor/dtype.ts';
import { streamSafetensors, type WeightSource } from '../../tensor/safetensors.ts';
import { bytesOf, commonDtype, oneByOne, type Plan, weightsToWrite, writeCompanions } from '../plan.ts';
import type { Source } from '../source.ts';
import { differences } from './differences.ts';
import { factoryKey } from './keys.ts';

/** Factory's language models: it tells them by their names, and fetches their tokenizers by them. */
const languageNames: Readonly<Record<string, string>> = {
  llama: 'TinyLlama/TinyLlama-1.1B-Chat-v1.0',
  phi: 'microsoft/phi-2',
  stablelm: 'stabilityai/stablelm-2-zephyr-1_6b',
  gemma: 'google/gemma-2b-it',
  qwen2: 'Qwen/Qwen2.5-0.5B-Instruct',
  openelm: 'apple/OpenELM-450M-Instruct',
};

/** Its towers, whose image processors it fetches by these names; the second is MoF's other one. */
const towerNames: Readonly<Record<string, readonly [string, string]>> = {
  clip: ['openai/clip-vit-large-patch14-336', ''],
  siglip: ['google/siglip-so400m-patch14-384', ''],
  dinov2: ['facebook/dinov2-large', ''],
  mof: ['mof:openai/clip-vit-large-patch14', 'mof:facebook/dinov2-large'],
};

/** Fields that only whoever made the model knows: a model of Factory's own keeps them. */
const kept = [
  'llm_model_name_or_path',
  'tokenizer_name_or_path',
  'vision_model_name_or_path',
  'vision_model_name_or_path2',
  'pad_token',
  'pad_token_id',
  'tokenizer_model_max_length',
  'tokenizer_use_fast',
  'image_aspect_ratio',
  'resampler_hidden_size',
];

const ownFields = ({ json }: Source): Json => Object.fromEntries(kept.flatMap((name) => (name in json ? [[name, json[name]]] : [])));

function refuse(what: string): never {
  throw new ConfigError(`factory-v1: TinyLLaVA Factory 1 has no ${what}`, { hint: 'convert it with --to hf instead' });
}

/** Throws ConfigError for what transformers has learned since 4.40, with which Factory runs. */
function checkLanguage(language: PartConfig): void {
  const { ropeType } = (language['ropeParameters'] ?? { ropeType: 'default' }) as { ropeType: string };
  if (ropeType !== 'default') refuse(`rotary positions scaled by ${ropeType}`);
  if (language['mlpBias'] === true) refuse('biases in perceptrons (language.mlpBias)');
  const { type, hiddenSize, numAttentionHeads, headDim } = language;
  if (type === 'llama' && headDim !== undefined && headDim !== Number(hiddenSize) / Number(numAttentionHeads))
    refuse(`heads of a width of their own (language.headDim ${headDim})`);
}

/** A tower's section without the fields that this package alone reads: a folder must not need them. */
const withoutOwn = ({ post_norm: _norm, input_size: _size, ...section }: Json): Json => section;

function connectorType(connector: PartConfig): string {
  if (connector.type === 'mlp') return `mlp${connector['layers']}x_gelu`;
  if (connector.type === 'mof-mlp') return 'mof_mlp';
  if (['identity', 'linear', 'resampler', 'qformer'].includes(connector.type)) return connector.type;
  return refuse(`connector ${connector.type}`);
}

/** Whether the first token is left out: with every tower of Factory's, be it a class token or a patch. */
const selects = (vision: PartConfig): 'patch' | 'cls_patch' =>
  (vision.type === 'siglip' ? vision['dropFirstPatch'] === true : vision['select'] === 'patch') ? 'patch' : 'cls_patch';

/** Factory's settings of a tokenizer: texts are padded with what stands for unknown tokens, in most families. */
function padding({ tokenizer, config: { language } }: Source): Json {
  const { padTokenId } = language;
  const token = language.type === 'qwen2' ? tokenizer?.padToken : (tokenizer?.unkToken ?? tokenizer?.padToken);
  const id = token === undefined ? undefined : tokenizer?.idOf(token);
  return { pad_token: token ?? null, pad_token_id: id ?? (typeof padTokenId === 'number' ? padTokenId : null) };
}

function configOf(source: Source, dtype: DType): Json {
  const { language, vision, connector, arrangement } = source.config;
  if (arrangement || source.image?.tiling) refuse('tiles of images');
  if (!vision || !connector) refuse('language model alone');
  const languageName = Object.hasOwn(languageNames, language.type) ? languageNames[language.type] : undefined;
  const names = Object.hasOwn(towerNames, vision.type) ? towerNames[vision.type] : undefined;
  if (languageName === undefined) refuse(`language model ${language.type}`);
  if (names === undefined) refuse(`vision tower ${vision.type}`);
  checkLanguage(language);
  const text = pick(parts.languageModels, 'language model', language.type).toJson(language);
  const {
    vision_feature_layer,
    vision_feature_select_strategy: _,
    ...tower
  } = pick(parts.visionTowers, 'vision tower', vision.type).toJson(vision);
  if (typeof vision_feature_layer !== 'number') refuse(`features of several layers (${JSON.stringify(vision['featureLayer'])})`);
  // Factory describes MoF's CLIP alone; its own code makes the other
  const section = withoutOwn(vision.type === 'mof' ? { model_type: 'clip_vision_model', ...(tower['clip'] as Json) } : tower);
  return {
    architectures: ['TinyLlavaForConditionalGeneration'],
    model_type: 'tinyllava',
    llm_model_name_or_path: languageName,
    tokenizer_name_or_path: languageName,
    vision_model_name_or_path: names[0],
    vision_model_name_or_path2: names[1],
    connector_type: connectorType(connector),
    hidden_size: source.model.languageModel.hiddenSize,
    vocab_size: source.model.languageModel.vocabSize,
    ignore_index: -100,
    image_token_index: -200,
    ...padding(source),
    tokenizer_padding_side: 'right',
    tokenizer_model_max_length: Number(language['maxPositionEmbeddings'] ?? language['maxContextLength']),
    tokenizer_use_fast: false,
    vision_hidden_size: section['hidden_size'],
    vision_feature_layer,
    vision_feature_select_strategy: selects(vision),
    image_aspect_ratio: source.image?.aspect ?? 'square',
    resampler_hidden_size: 768,
    num_queries: connector['numQueries'] ?? 128,
    num_resampler_layers: connector['numLayers'] ?? 3,
    tune_type_llm: 'full',
    tune_type_connector: 'full',
    tune_type_vision_tower: 'frozen',
    tune_vision_tower_from_layer: 0,
    use_cache: true,
    cache_dir: null,
    text_config: { ...text, torch_dtype: dtype },
    vision_config: { ...section, model_name_or_path: names[0].replace(/^mof:/, ''), model_name_or_path2: names[1].replace(/^mof:/, '') },
    torch_dtype: dtype,
    transformers_version: '4.40.1',
    ...ownFields(source),
  };
}

/** Throws ConfigError unless the folder that is to be is read as the model that goes in: settings that no field of Factory's holds are named. */
function checkReadBack(source: Source, json: Json, weights: WeightSource): void {
  const file = 'config.json';
  const read = configFromJson(factory.read(json, weights, file), file);
  const lost = (['language', 'vision', 'connector'] as const).flatMap((part) => differences(source.config[part], read[part], part));
  if (lost.length === 0) return;
  throw new ConfigError(`factory-v1: TinyLLaVA Factory 1 cannot express ${lost.join(', ')}`, { hint: 'convert it with --to hf instead' });
}

/** TinyLLaVA Factory 1's single folder. Throws ConfigError for parts and settings that it cannot express. */
export function planFactory(source: Source, { dtype }: { dtype?: DType | undefined }): Plan {
  const tensors = weightsToWrite(source, { dtype, rename: (key) => factoryKey(key, source) });
  const stored = commonDtype(tensors);
  const json = configOf(source, stored === 'mixed' ? 'float32' : stored);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const find = (name: string) => byName.get(name) ?? refuse(`weight ${name}`);
  const written: WeightSource = {
    path: source.folder,
    names: [...byName.keys()],
    shape: (name) => find(name).shape,
    dtype: (name) => find(name).dtype,
    tensor: (name) => find(name).tensor(),
  };
  checkReadBack(source, json, written);
  return {
    bytes: bytesOf(tensors),
    stored,
    notes: [
      ...source.notes,
      ...('vision_model_name_or_path' in source.json
        ? []
        : ['Factory fetches tokenizer and image processor by the names in config.json: put in those of what this model was made of']),
    ],
    write: async (folder, signal) => {
      await writeFile(join(folder, 'config.json'), jsonText(json));
      await writeCompanions(folder, source);
      await oneByOne(streamSafetensors(join(folder, 'model.safetensors'), tensors), signal);
    },
  };
}
