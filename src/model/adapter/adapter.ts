import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { CheckpointError, ConfigError } from '../../errors.ts';
import { openSafetensors, type WeightSource } from '../../tensor/safetensors.ts';
import { openTorchFile } from '../../tensor/torch-file.ts';
import { asJson } from '../hugging-face.ts';
import { united } from '../united.ts';
import { type AdapterFields, adapterConfigFile, parseAdapterConfig } from './config.ts';

/** The tensors of one changed layer, by their names in the file. */
export interface Factors {
  /** [rank, inputs] */
  readonly a: string;
  /** [outputs, rank] */
  readonly b: string;
  /** [outputs], DoRA's. */
  readonly magnitude?: string;
}

/** A LoRA adapter as PEFT (https://github.com/huggingface/peft) writes it. */
export interface Adapter {
  readonly folder: string;
  readonly fields: AdapterFields;
  readonly weights: WeightSource;
  /** What changes by a product of factors, by the layer's name in the model that the adapter was trained in. */
  readonly layers: ReadonlyMap<string, Factors>;
  /** Weights that were learned as a whole, by their names there, and their names in the file. */
  readonly whole: ReadonlyMap<string, string>;
}

/** Finds the folder of a model by the name that an adapter in the folder `from` gives for its base. */
export type ResolveBase = (name: string, from: string) => string | Promise<string>;

const names = ['adapter_model.safetensors', 'adapter_model.bin'];

/** What LLaVA's LoRA training learned as a whole: the projector, and embeddings where it has tokens of its own. */
export const llavaTrainables = 'non_lora_trainables.bin';

/** Whether a folder holds an adapter. */
export const isAdapter = (folder: string): boolean => existsSync(join(folder, adapterConfigFile));

/** Opens an adapter's folder. Throws CheckpointError or ConfigError. */
export async function openAdapter(folder: string): Promise<Adapter> {
  const file = join(folder, adapterConfigFile);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new CheckpointError(`${folder}: no ${adapterConfigFile}`, { hint: 'an adapter is a folder that PEFT wrote', cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`${file}: not JSON: ${(cause as Error).message}`, { cause });
  }
  const fields = parseAdapterConfig(asJson(json, file), file);
  const name = names.find((candidate) => existsSync(join(folder, candidate)));
  if (name === undefined) throw new CheckpointError(`${folder}: none of ${names.join(', ')} beside ${adapterConfigFile}`);
  const files = [name, llavaTrainables].filter((file) => existsSync(join(folder, file))).map((file) => openFile(join(folder, file)));
  return {
    folder,
    fields,
    ...sorted(
      united(
        files[0]?.path ?? folder,
        files.map((weights) => ({ weights })),
      ),
    ),
  };
}

const openFile = (path: string): WeightSource => (path.endsWith('.safetensors') ? openSafetensors(path) : openTorchFile(path));

/** Sorts the tensors of an adapter's file by what they are for. */
function sorted(weights: WeightSource): Pick<Adapter, 'weights' | 'layers' | 'whole'> {
  const found = new Map<string, { a?: string; b?: string; magnitude?: string }>();
  const whole = new Map<string, string>();
  for (const name of weights.names) {
    const bare = bareName(name);
    const [, layer, kind] = /^(.*)\.lora_(A|B|magnitude_vector)(?:\.weight)?$/.exec(bare) ?? [];
    if (layer !== undefined) {
      const factors = found.get(layer) ?? {};
      found.set(layer, { ...factors, [kind === 'A' ? 'a' : kind === 'B' ? 'b' : 'magnitude']: name });
    } else if (/\.lora_/.test(bare)) {
      throw new CheckpointError(`${weights.path}: "${name}" is a kind of adapter that is not read`, {
        hint: "merge it with PEFT's merge_and_unload",
      });
    } else whole.set(bare, name);
  }
  const layers = new Map<string, Factors>();
  for (const [layer, { a, b, magnitude }] of found) {
    if (a === undefined || b === undefined)
      throw new CheckpointError(`${weights.path}: "${layer}" has no lora_${a === undefined ? 'A' : 'B'}`);
    layers.set(layer, { a, b, ...(magnitude !== undefined && { magnitude }) });
  }
  return { weights, layers, whole };
}

/** A name without what PEFT's wrappers add: the model's own, and that of the adapter. */
const bareName = (name: string): string =>
  name
    .replace(/^base_model\.model\./, '')
    .replace(/\.base_layer\./, '.')
    .replace(/\.modules_to_save\.default\./, '.')
    .replace(/(\.lora_\w+)\.default(?=\.|$)/, '$1');

/** The base of an adapter: an absolute path, or one from the adapter's folder or the working directory. Throws CheckpointError. */
export const localBase: ResolveBase = (name, from) => {
  const found = (isAbsolute(name) ? [name] : [resolve(from, name), resolve(name)]).find(existsSync);
  if (found !== undefined) return found;
  throw new CheckpointError(`${from}: its base "${name}" is not a folder here`, {
    hint: `fetch the model and name its folder as base, or write its path into ${adapterConfigFile}`,
  });
};
