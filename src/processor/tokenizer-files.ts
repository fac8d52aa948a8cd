import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';
import { isGguf } from '../tensor/gguf.ts';
import { ggufTokenizerFiles } from './gguf-tokenizer.ts';

const AddedToken = z.looseObject({
  id: z.int().nonnegative(),
  content: z.string().min(1),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  special: z.boolean().default(false),
});
/** A token outside the model's own vocabulary; `lstrip` and `rstrip` say that it swallows the white space beside it. */
export type AddedToken = z.output<typeof AddedToken>;

// 262,144 entries take zod 0.4 s one by one, so their shape alone is checked
const Vocabulary = z.custom<Record<string, number> | [string, number][]>((value) => typeof value === 'object' && value !== null, {
  error: 'expected a vocabulary',
});
const TokenizerJson = z.looseObject({
  added_tokens: z.array(AddedToken).default([]),
  normalizer: z.looseObject({ type: z.string() }).nullish(),
  pre_tokenizer: z.looseObject({ type: z.string() }).nullish(),
  post_processor: z.looseObject({ type: z.string() }).nullish(),
  decoder: z.looseObject({ type: z.string() }).nullish(),
  model: z.looseObject({ vocab: Vocabulary }),
});
export type TokenizerJson = z.output<typeof TokenizerJson>;
const TokenizerConfig = z.record(z.string(), z.unknown());
export type TokenizerConfig = z.output<typeof TokenizerConfig>;

/** What a tokenizer is on disk: the parsed `tokenizer.json` and `tokenizer_config.json`, kept whole so that they are written back unchanged. */
export interface TokenizerFiles {
  readonly json: TokenizerJson;
  readonly config: TokenizerConfig;
}

/** Whether a checkpoint's folder, or its GGUF file, has a tokenizer. */
export const hasTokenizer = (folder: string): boolean => isGguf(folder) || existsSync(join(folder, 'tokenizer.json'));

/** The first of some folders that has a tokenizer, else the first. */
export const tokenizerFolder = (folders: readonly string[]): string => folders.find(hasTokenizer) ?? folders[0] ?? '.';

/** Reads the tokenizer of a checkpoint folder, or of a GGUF file; special tokens that only `special_tokens_map.json` names are merged into the config. Throws CheckpointError. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  if (isGguf(folder)) return ggufTokenizerFiles(folder);
  const json = await readJson(join(folder, 'tokenizer.json'), TokenizerJson);
  if (json === undefined) {
    throw new CheckpointError(`${folder} has no tokenizer.json`, {
      hint: "in Python, AutoTokenizer.from_pretrained('…').save_pretrained(folder) writes one beside the other tokenizer files",
    });
  }
  const named = await readJson(join(folder, 'special_tokens_map.json'), TokenizerConfig);
  const config = await readJson(join(folder, 'tokenizer_config.json'), TokenizerConfig);
  return { json, config: { ...named, ...config } };
}

/** Writes `tokenizer.json` and `tokenizer_config.json`. */
export async function writeTokenizerFiles(folder: string, { json, config }: TokenizerFiles): Promise<void> {
  await writeFile(join(folder, 'tokenizer.json'), `${JSON.stringify(json, null, 2)}\n`);
  await writeFile(join(folder, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

/** The files with one more special token, on the first id that is free unless one is given. Files that have the token are returned as they are. */
export function addSpecialToken(files: TokenizerFiles, content: string, wanted?: number): TokenizerFiles {
  const { json, config } = files;
  const others = json.added_tokens.filter((token) => token.content !== content);
  if (json.added_tokens.some((token) => token.content === content && token.special)) return files;
  const vocabulary = modelVocabulary(json);
  const known = vocabulary.get(content) ?? json.added_tokens.find((token) => token.content === content)?.id;
  const id = known ?? wanted ?? largest([...vocabulary.values(), ...json.added_tokens.map((token) => token.id)]) + 1;
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const decoder = config['added_tokens_decoder'];
  return {
    json: { ...json, added_tokens: [...others, { id, content, ...flags }] },
    config: decoder ? { ...config, added_tokens_decoder: { ...decoder, [id]: { content, ...flags } } } : config,
  };
}

/** Token to id of the model's own vocabulary, without added tokens. */
export function modelVocabulary(json: TokenizerJson): Map<string, number> {
  const { vocab } = json.model;
  return Array.isArray(vocab) ? new Map(vocab.map(([token], id) => [token, id])) : new Map(Object.entries(vocab));
}

function largest(ids: readonly number[]): number {
  return ids.reduce((best, id) => Math.max(best, id), -1);
}

async function readJson<Schema extends z.ZodType>(file: string, schema: Schema): Promise<z.output<Schema> | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CheckpointError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    const what = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new CheckpointError(`${file} is not what it should be: ${what}`, { hint: 'copy the file again from where it came', cause });
  }
}
