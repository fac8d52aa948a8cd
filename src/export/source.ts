import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type OpenCheckpoint, openCheckpoint } from '../model/checkpoint.ts';
import type { Json } from '../model/part.ts';
import { ImageProcessor } from '../processor/image.ts';
import type { ImageConfig } from '../processor/image-config.ts';
import { readTemplate } from '../processor/template-files.ts';
import { namedTemplate } from '../processor/templates.ts';
import { Tokenizer } from '../processor/tokenizer.ts';
import { isGguf, openGguf } from '../tensor/gguf.ts';
import { usualImage } from './usual-image.ts';

/** A model to convert: its settings, weights that are read one by one, and the files that say how texts and images come in. */
export interface Source extends OpenCheckpoint {
  /** Its config.json as it lies there; empty for a GGUF file. */
  readonly json: Json;
  readonly tokenizer: Tokenizer | undefined;
  /** The Jinja text of its chat template. */
  readonly template: string | undefined;
  /** How images become pixels; undefined for a language model alone. */
  readonly image: ImageConfig | undefined;
  /** Files that go with the model as they are, by name: vocabularies in other formats, generation settings. */
  readonly others: Readonly<Record<string, Uint8Array>>;
  /** What the user should know of it. */
  readonly notes: readonly string[];
}

/** Files beside a model that other programs read and that no conversion changes. */
const companions = ['tokenizer.model', 'generation_config.json', 'recipe.yaml', 'LICENSE', 'LICENSE.txt', 'NOTICE'];

async function companionsOf(folder: string): Promise<Record<string, Uint8Array>> {
  if (isGguf(folder)) return {};
  const present = companions.filter((name) => existsSync(join(folder, name)));
  return Object.fromEntries(await Promise.all(present.map(async (name) => [name, await readFile(join(folder, name))] as const)));
}

/** How images are taken: as the folder says, else as such towers usually take them. */
async function imageOf(
  { folder, config, model }: OpenCheckpoint,
  json: Json,
): Promise<{ image: ImageConfig | undefined; notes: string[] }> {
  if (!config.vision) return { image: undefined, notes: [] };
  const settings = ['preprocessor_config.json', 'processor_config.json'].some((name) => existsSync(join(folder, name)));
  if (settings) return { image: (await ImageProcessor.open(folder)).config, notes: [] };
  const pad = json['image_aspect_ratio'] === 'pad';
  const image = usualImage(config.vision.type, model.visionTower?.imageSize ?? 0, { pad });
  return { image, notes: [`no preprocessor_config.json: images are taken as ${config.vision.type} towers usually take them`] };
}

/**
 * Opens whatever `loadCheckpoint` opens, with the files that go with it; `template` takes the place of the folder's, by name or as Jinja
 * text. Throws CheckpointError or ConfigError.
 */
export async function openSource(path: string, { template }: { template?: string | undefined } = {}): Promise<Source> {
  const checkpoint = await openCheckpoint(path);
  const hasTokenizer = isGguf(path) ? openGguf(path).metadata.has('tokenizer.ggml.model') : existsSync(join(path, 'tokenizer.json'));
  const tokenizer = hasTokenizer ? await Tokenizer.open(path) : undefined;
  const json = isGguf(path) ? {} : (JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as Json);
  const { image, notes } = await imageOf(checkpoint, json);
  const named = template !== undefined && tokenizer && !/[{\n]/.test(template) ? namedTemplate(template, tokenizer) : template;
  const chosen = named ?? (tokenizer && (await readTemplate(path, tokenizer.files.config)));
  if (!tokenizer) notes.push('no tokenizer.json: AutoTokenizer and save_pretrained of transformers write one');
  else if (chosen === undefined && image) notes.push('no chat template: name one with --template');
  return { ...checkpoint, json, tokenizer, template: chosen, image, notes, others: await companionsOf(path) };
}
