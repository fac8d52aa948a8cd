import { resolve } from 'node:path';
import { Mixture } from '../data/mixture.ts';
import { ConfigError, DataError } from '../errors.ts';
import type { HubUse } from '../hub/needed.ts';
import { resolveFrom, resolveModel } from '../hub/resolve.ts';
import type { Log } from '../log.ts';
import { loadCheckpoint, loadLanguageModel, loadMofTower, loadVisionTower, loadWeights } from '../model/checkpoint.ts';
import { createTinyLlava, type TinyLlava } from '../model/tinyllava.ts';
import type { LoadedTower } from '../model/vision/mof.ts';
import { ImageProcessor } from '../processor/image.ts';
import type { ImageConfigInput } from '../processor/image-config.ts';
import { contentParts } from '../processor/message.ts';
import { openProcessorParts } from '../processor/open.ts';
import { Processor, type ProcessorParts } from '../processor/processor.ts';
import { readTemplate } from '../processor/template-files.ts';
import { Tokenizer } from '../processor/tokenizer.ts';
import { splitWords, wordLevelTokenizer } from '../processor/word-level.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import { Generator } from '../tensor/random.ts';
import { precisions } from './precision.ts';
import { type AssembledModel, isLora, type PartName, type Recipe, type Source, type Stage } from './recipe.ts';
import { withVocabulary } from './vocabulary.ts';

const imageToken = '<image>';

/** Where a recipe's relative paths start, and where its model is to live. */
export interface BuildOptions {
  readonly root: string;
  readonly device: Device;
  /** Off: fresh weights stay without memory, for looking at shapes and counting. */
  readonly initialize?: boolean;
  /** Gets `HubEvent`s while parts come from the hub. */
  readonly log?: Log | undefined;
  /** Aborting it ends a download. */
  readonly signal?: AbortSignal | undefined;
  /** A run that goes on: the stage that is next, counted from 0, and the checkpoint of the one before it. */
  readonly next?: { readonly stage: number; readonly folder: string } | undefined;
}

/** A recipe's model, and the processor of each stage. */
export interface Built {
  readonly model: TinyLlava;
  /** Throws ConfigError when neither the stage nor the model's folder has a chat template. */
  processorFor(stage: Stage): Processor;
}

/** Text and pixels as the model wants them, before a stage chooses its template; `template` is that of the model's folder. */
interface Inputs extends Omit<ProcessorParts, 'template' | 'image'> {
  readonly image: ImageProcessor;
  readonly template: string | undefined;
}

/** The folder of a part that has one: a path, or a model of the hub, of which the files for `use` are fetched. */
async function folderOf(part: object, use: HubUse, { root, log, signal }: BuildOptions): Promise<string | undefined> {
  if (!('from' in part && typeof part.from === 'string')) return undefined;
  return resolveModel(part.from, { use, root, log, signal });
}

/** Opens data files as one. Throws DataError. */
export const openData = (sources: readonly Source[], root: string): Promise<Mixture> =>
  Mixture.open(
    sources.map(({ conversations, images, prompt, repeat, weight, limit, minRatings }) => ({
      file: resolve(root, conversations),
      repeat,
      weight,
      prompt,
      minRatings,
      ...(images !== undefined && { imageFolder: resolve(root, images) }),
      ...(limit !== undefined && { limit }),
    })),
  );

/**
 * The dtype that a part's weights are opened in: what they compute in where the stage leaves them as they are, so that float32 ones are never in
 * memory as a whole.
 */
function opening({ precision, stages }: Recipe, part: PartName, stage = 0): DType {
  const tuning = stages[stage]?.learns[part];
  return tuning === undefined || tuning.tune === 'frozen' || isLora(tuning) ? precisions[precision].compute : 'float32';
}

/** What is learned of the arrangement goes with the connector. */
function partOfKey(key: string): PartName {
  if (key.startsWith('model.vision_tower.')) return 'vision';
  return key.startsWith('model.language_model.') || key.startsWith('lm_head') ? 'language' : 'connector';
}

/** Puts the weights of a checkpoint into a recipe's model, for the stage that is next. Throws CheckpointError. */
export async function reopen(
  model: TinyLlava,
  recipe: Recipe,
  { stage, folder, device }: { stage: number; folder: string; device: Device },
): Promise<void> {
  await loadWeights(model, folder, { dtype: (key) => opening(recipe, partOfKey(key), stage), device });
}

/** Makes or opens the model of a recipe, frozen, in float32 unless the recipe wants less. Throws ConfigError, CheckpointError or DataError. */
export async function build(recipe: Recipe, { next, ...given }: BuildOptions): Promise<Built> {
  const options = next ? { ...given, initialize: false } : given;
  const folder = await folderOf(recipe.model, 'model', options);
  const opened =
    folder === undefined ? await assemble(recipe, recipe.model as AssembledModel, options) : await open(recipe, folder, options);
  const { model, inputs } = opened;
  if (next) await reopen(model, recipe, { ...next, device: options.device });
  const { template: own, ...parts } = inputs;
  const image = new ImageProcessor(imageSettings(inputs.image, recipe));
  const side = model.visionTower?.imageSize;
  if (image.height !== side || image.width !== side) {
    throw new ConfigError(`images become ${image.width} x ${image.height} pixels, but the vision tower takes ${side} x ${side}`);
  }
  return {
    model,
    processorFor: ({ name, template = own }) => {
      if (template !== undefined)
        return new Processor({
          ...parts,
          image,
          template,
          imageTokens: (layout) => model.imageRuns(layout),
          videoFrames: recipe.processor.videoFrames,
        });
      throw new ConfigError(`stage ${name} names no template, and the model's folder has none`, { hint: 'add template: to the stage' });
    },
  };
}

async function open(recipe: Recipe, folder: string, { device, log, signal }: BuildOptions): Promise<{ model: TinyLlava; inputs: Inputs }> {
  const resolve = resolveFrom({ log, signal });
  const { model } = await loadCheckpoint(folder, { dtype: (key) => opening(recipe, partOfKey(key)), device, resolve });
  if (!model.visionTower) {
    throw new ConfigError(`${folder} is a language model alone`, {
      hint: 'name it as model.language.from, beside a vision tower and a connector',
    });
  }
  const { image, ...inputs } = await openProcessorParts(folder, model, { resolve });
  if (!image) throw new ConfigError(`${folder} has no image processor`);
  return { model, inputs: { ...inputs, image } };
}

/** What the folder says of images, changed as the recipe says; tiles are squares of the size that the tower takes. */
function imageSettings({ config, height, width }: ImageProcessor, { processor }: Recipe): ImageConfigInput {
  const { crop, ...uncropped } = config;
  const changed = processor.image.tiling ? { ...uncropped, size: { height, width } } : config;
  return { ...changed, ...processor.image };
}

async function assemble(recipe: Recipe, parts: AssembledModel, options: BuildOptions): Promise<{ model: TinyLlava; inputs: Inputs }> {
  const { device, initialize = true, log, signal } = options;
  const find = resolveFrom({ log, signal });
  const languageFolder = await folderOf(parts.language, 'language', options);
  const tower = await openTower(recipe, parts.vision, options);
  const tokenizer = (await openTokenizer(recipe, languageFolder, options)).withSpecialToken(imageToken);
  const language =
    languageFolder === undefined
      ? undefined
      : withVocabulary(
          await loadLanguageModel(languageFolder, { dtype: opening(recipe, 'language'), device, resolve: find }),
          tokenizer.size,
        );
  const model = createTinyLlava({
    vision: tower?.config ?? parts.vision,
    connector: parts.connector,
    language: language?.config ?? { vocabSize: tokenizer.size, ...tokenIds(tokenizer), ...parts.language },
    imageTokenId: tokenizer.requireId(imageToken),
    ...arrangementOf(recipe),
  });
  const { visionTower, connector, arrangement, languageModel } = model;
  if (languageModel.vocabSize < tokenizer.size) {
    throw new ConfigError(`model.language.vocabSize is ${languageModel.vocabSize}, but the tokenizer has ${tokenizer.size} ids`, {
      hint: 'leave it out, and there is room for all of them',
    });
  }
  if (initialize) {
    const generator = new Generator(recipe.seed);
    if (!tower) visionTower?.initialize(generator, { device });
    connector?.initialize(generator, { device });
    arrangement?.initialize(generator, { device });
    if (!language) languageModel.initialize(generator, { device });
  }
  Object.assign(model, tower && { visionTower: tower.tower }, language && { languageModel: language.model });
  const size = visionTower?.imageSize ?? 0;
  const centred = new ImageProcessor({ size: { height: size, width: size }, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] });
  const image = tower ? await ImageProcessor.open(tower.folder) : centred;
  const template = languageFolder === undefined ? undefined : await readTemplate(languageFolder, tokenizer.files.config);
  return { model, inputs: { tokenizer, image, template } };
}

/** A tower out of its folder, or of two, of which the first has the image settings; undefined for a fresh one. */
async function openTower(
  recipe: Recipe,
  vision: AssembledModel['vision'],
  options: BuildOptions,
): Promise<(LoadedTower & { folder: string }) | undefined> {
  const { from: _, ...overrides } = vision as { from?: unknown };
  const { device, log, signal } = options;
  const loading = { dtype: opening(recipe, 'vision'), device, resolve: resolveFrom({ log, signal }) };
  const folder = await folderOf(vision, 'vision', options);
  if (folder !== undefined) return { ...(await loadVisionTower(folder, { overrides, ...loading })), folder };
  const { type: __, clip = {}, dinov2 = {}, ...settings } = overrides as { type?: unknown; clip?: object; dinov2?: object };
  const [first, second] = [await folderOf(clip, 'vision', options), await folderOf(dinov2, 'vision', options)];
  if (first === undefined || second === undefined) return undefined;
  return { ...(await loadMofTower({ clip: first, dinov2: second }, { overrides: settings, ...loading })), folder: first };
}

/** Tiles of anyres are put together by the model, which learns a token for the ends of their rows. */
function arrangementOf({ processor }: Recipe): { arrangement?: object } {
  const { tiling } = processor.image;
  if (tiling?.type !== 'anyres') return {};
  const { pinpoints, maxTiles } = tiling;
  return { arrangement: { type: 'unpad', pinpoints, ...(maxTiles !== undefined && { maxTiles }) } };
}

const tokenIds = (tokenizer: Tokenizer): Record<string, number> => {
  const named = { bosTokenId: tokenizer.bosToken, eosTokenId: tokenizer.eosToken, padTokenId: tokenizer.padToken };
  return Object.fromEntries(
    Object.entries(named).flatMap(([key, token]) => (token === undefined ? [] : [[key, tokenizer.requireId(token)]])),
  );
};

async function openTokenizer({ processor, stages }: Recipe, languageFolder: string | undefined, options: BuildOptions): Promise<Tokenizer> {
  const { tokenizer } = processor;
  const folder = (tokenizer && (await folderOf(tokenizer, 'tokenizer', options))) ?? languageFolder;
  if (folder !== undefined && !(tokenizer && 'type' in tokenizer)) return Tokenizer.open(folder);
  if (tokenizer === undefined) {
    throw new ConfigError('the language model is fresh and has no tokenizer', {
      hint: 'add processor.tokenizer: { from: folder }, or { type: word-level } for a tiny model',
    });
  }
  const words = new Set<string>();
  for (const { data, unusableRows } of stages) {
    await using rows = await openData(data, options.root);
    for (let i = 0; i < rows.length; i++) {
      const row = await rows.row(i).catch((error: unknown) => {
        if (error instanceof DataError && unusableRows === 'skip') return undefined;
        throw error;
      });
      for (const part of row?.messages.flatMap(contentParts) ?? [])
        if (part.type === 'text') for (const word of splitWords(part.text)) words.add(word);
    }
  }
  return wordLevelTokenizer([...words].sort(), { lowercase: 'lowercase' in tokenizer && tokenizer.lowercase });
}
