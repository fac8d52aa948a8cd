import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../errors.ts';
import { isGguf } from '../tensor/gguf.ts';
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
