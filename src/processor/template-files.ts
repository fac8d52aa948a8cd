import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../errors.ts';
import { isGguf } from '../tensor/gguf.ts';
import { templates } from './templates.ts';
import type { TokenizerConfig } from './tokenizer-files.ts';

/**
 * The chat template of a checkpoint folder: `chat_template.jinja`, else `chat_template.json`, else the tokenizer config's, as for a GGUF file.
 * Undefined when there is none.
 */
export async function readTemplate(folder: string, config: TokenizerConfig): Promise<string | undefined> {
  if (isGguf(folder)) return templateOf(config['chat_template'], folder);
  const jinja = await readText(join(folder, 'chat_template.jinja'));
  if (jinja !== undefined) return jinja;
  const json = await readText(join(folder, 'chat_template.json'));
  return templateOf(json === undefined ? config['chat_template'] : JSON.parse(json).chat_template, folder);
}

/** Says that a folder has no chat template. */
export function noTemplate(folder: string): CheckpointError {
  return new CheckpointError(`${folder} has no chat template`, {
    hint: `copy chat_template.jinja from the model, or name a template: ${Object.keys(templates).join(', ')}`,
  });
}

/** The class of processor that a folder was written by: what `processor_config.json` says, else the tokenizer's config. */
export async function readProcessorClass(folder: string, config: TokenizerConfig): Promise<unknown> {
  const text = isGguf(folder) ? undefined : await readText(join(folder, 'processor_config.json'));
  return (text === undefined ? undefined : JSON.parse(text).processor_class) ?? config['processor_class'];
}

/** Writes `chat_template.jinja`, where transformers looks first. */
export async function writeTemplate(folder: string, source: string): Promise<void> {
  await writeFile(join(folder, 'chat_template.jinja'), source);
}

function templateOf(value: unknown, folder: string): string | undefined {
  if (value === undefined || value === null || typeof value === 'string') return value ?? undefined;
  // several templates by name, as for tool use: the plain one is called "default"
  const named = Array.isArray(value) ? value.find((entry) => entry?.name === 'default')?.template : undefined;
  if (typeof named === 'string') return named;
  throw new CheckpointError(`the chat template of ${folder} is neither a text nor a list with one called "default"`, {
    hint: 'write the template to chat_template.jinja',
  });
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CheckpointError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
