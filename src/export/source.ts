import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { resolveFrom } from '../hub/resolve.ts';
import { type OpenCheckpoint, openCheckpoint } from '../model/checkpoint.ts';
import type { ProcessorHints } from '../model/dialects/processor-hints.ts';
import { openModelFiles } from '../model/model-files.ts';
import type { Json } from '../model/part.ts';
import { ImageProcessor } from '../processor/image.ts';
import type { ImageConfig } from '../processor/image-config.ts';
import type { ImageSpelling } from '../processor/image-spelling.ts';
import { templateFor } from '../processor/open.ts';
import { spellingOf } from '../processor/processor-file.ts';
import { readProcessorClass } from '../processor/template-files.ts';
import { namedTemplate } from '../processor/templates.ts';
import { Tokenizer } from '../processor/tokenizer.ts';
import { tokenizerFolder } from '../processor/tokenizer-files.ts';
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
  /** What stands around an image's tokens. */
  readonly spelling: ImageSpelling;
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

/** How images are taken: as the folder or the code of its layout says, else as such towers usually take them. */
async function imageOf(
  { folder, config, model }: OpenCheckpoint,
  hints: ProcessorHints | undefined,
): Promise<{ image: ImageConfig | undefined; notes: string[] }> {
  if (!config.vision) return { image: undefined, notes: [] };
  const settings = ['preprocessor_config.json', 'processor_config.json'].some((name) => existsSync(join(folder, name)));
  if (settings || hints?.preprocessor) return { image: (await ImageProcessor.open(folder, hints?.preprocessor)).config, notes: [] };
  const image = usualImage(config.vision.type, model.visionTower?.imageSize ?? 0);
  return { image, notes: [`no preprocessor_config.json: images are taken as ${config.vision.type} towers usually take them`] };
}

/**
 * Opens whatever `loadCheckpoint` opens, with the files that go with it; `template` takes the place of the folder's, by name or as Jinja
 * text. Throws CheckpointError or ConfigError.
 */
export async function openSource(path: string, { template }: { template?: string | undefined } = {}): Promise<Source> {
  const resolve = resolveFrom();
  const checkpoint = await openCheckpoint(path, { resolve });
  const { processor: hints, folders } = await openModelFiles(path, { resolve });
  // An adapter may leave them to its base.
  const home = tokenizerFolder(folders);
  const hasTokenizer = isGguf(home) ? openGguf(home).metadata.has('tokenizer.ggml.model') : existsSync(join(home, 'tokenizer.json'));
  const tokenizer = hasTokenizer ? await Tokenizer.open(home) : undefined;
  const settings = folders.map((folder) => join(folder, 'config.json')).find(existsSync);
  const json = settings === undefined ? {} : (JSON.parse(await readFile(settings, 'utf8')) as Json);
  const { image, notes } = await imageOf({ ...checkpoint, folder: home }, hints);
  const wanted = template ?? (tokenizer && (await templateFor(home, tokenizer, hints)));
  const chosen = wanted !== undefined && tokenizer && !/[{\n]/.test(wanted) ? namedTemplate(wanted, tokenizer) : wanted;
  const spelling = spellingOf(await readProcessorClass(home, tokenizer?.files.config ?? {}));
  if (!tokenizer) notes.push('no tokenizer.json: AutoTokenizer and save_pretrained of transformers write one');
  else if (chosen === undefined && image) notes.push('no chat template: name one with --template');
  return { ...checkpoint, json, tokenizer, template: chosen, image, spelling, notes, others: await companionsOf(path) };
}
