import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** What a model is opened for, and so which of its files are fetched. */
export type HubUse = 'model' | 'vision' | 'language' | 'processor' | 'tokenizer';

const tokenizer = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja', 'chat_template.json'];
// Of images and, with some models, the chat template.
const processor = 'processor_config.json';
const images = 'preprocessor_config.json';
const settings = ['config.json', 'generation_config.json'];
const small: Readonly<Record<HubUse, readonly string[]>> = {
  model: [...settings, ...tokenizer, processor, images],
  vision: ['config.json', processor, images],
  language: [...settings, ...tokenizer, processor],
  processor: [...settings, ...tokenizer, processor, images],
  tokenizer: [...tokenizer, processor],
};
/** Without these a snapshot whose list of files is unknown does not count as whole. */
const essential: Readonly<Record<HubUse, readonly string[]>> = {
  model: ['config.json', 'tokenizer.json'],
  vision: ['config.json'],
  language: ['config.json', 'tokenizer.json'],
  processor: ['config.json', 'tokenizer.json'],
  tokenizer: ['tokenizer.json'],
};
/** As they are preferred where a folder is opened. */
const weightFiles = ['model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json'];
/** A LoRA adapter, alone or beside weights, and what LLaVA learned beside one. */
const adapterFiles = ['adapter_config.json', 'non_lora_trainables.bin'];
const adapterWeights = ['adapter_model.safetensors', 'adapter_model.bin'];
/** The folders that TinyLLaVA Factory's pre-training leaves instead of weights. */
const factoryFolders = ['language_model/', 'vision_tower/', 'connector/'];

/** The files of an index of shards that lies at `path`; undefined where it cannot be read, which opening it will say. */
function shardsOf(path: string): string[] | undefined {
  try {
    const { weight_map: map } = JSON.parse(readFileSync(path, 'utf8'));
    return [...new Set(Object.values(map as Record<string, string>))].filter((name) => basename(name) === name);
  } catch {
    return undefined;
  }
}

/** The weights below `prefix`; an index that is not in `snapshot` yet stands alone, without its shards. */
function weightsAt(prefix: string, names: ReadonlySet<string>, snapshot: string): string[] {
  const first = weightFiles.map((name) => prefix + name).find((name) => names.has(name));
  if (first === undefined) return [];
  if (!first.endsWith('.index.json')) return [first];
  const shards = shardsOf(join(snapshot, first)) ?? [];
  return [first, ...shards.map((shard) => join(dirname(first), shard)).filter((name) => names.has(name))];
}

/**
 * The files of a repository that are needed, out of all its `names`: settings, tokenizer, template and image settings, and the weights in one
 * form. Indexes of shards are read from `snapshot`: until they are there, their shards are left out.
 */
export function neededFiles(use: HubUse, names: ReadonlySet<string>, snapshot: string): string[] {
  const found = small[use].filter((name) => names.has(name));
  if (use === 'tokenizer') return found;
  const adapter = [...adapterFiles, ...adapterWeights.filter((name) => names.has(name)).slice(0, 1)].filter((name) => names.has(name));
  if (use === 'processor') return [...found, ...adapter];
  const weights = weightsAt('', names, snapshot);
  return [...found, ...adapter, ...(weights.length > 0 ? weights : factoryFolders.flatMap((folder) => weightsAt(folder, names, snapshot)))];
}

/** What a snapshot lacks, as far as it can be told without the list of the repository's files. */
export function missingFiles(use: HubUse, snapshot: string): string[] {
  const there = (name: string): boolean => existsSync(join(snapshot, name));
  const missing = essential[use].filter((name) => !there(name));
  if (use === 'tokenizer') return missing;
  // Its base has what else there is.
  if (there('adapter_config.json')) return adapterWeights.some(there) ? [] : adapterWeights.slice(0, 1);
  if (use === 'processor') return missing;
  const places = weightFiles.some(there) ? [''] : factoryFolders;
  const lacking = places.flatMap((place) => {
    const first = weightFiles.map((name) => place + name).find(there);
    if (first === undefined) return [`${place}${weightFiles[0]}`];
    const shards = first.endsWith('.index.json') ? (shardsOf(join(snapshot, first)) ?? []) : [];
    return shards.map((shard) => join(dirname(first), shard)).filter((name) => !there(name));
  });
  return [...missing, ...(places.length > 1 && lacking.length === places.length ? [weightFiles[0] as string] : lacking)];
}
