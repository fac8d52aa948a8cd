import { CheckpointError } from '../errors.ts';
import type { WeightSource } from '../tensor/safetensors.ts';

/** Rows of a dialect, applied in order to a key until it is one that the model has: what a pattern becomes, or null where it is not a weight. */
export type KeyRows = readonly (readonly [pattern: RegExp, key: string | null])[];

// Buffers that are written and that nothing reads: by old versions of transformers, and by batch norms.
const buffers: KeyRows = [
  [/\.num_batches_tracked$/, null],
  [/\.position_ids$/, null],
  [/\.rotary_emb\.inv_freq$/, null],
];

// transformers 5 dropped the level vision_model of CLIP and SigLIP from memory, and so from what it writes.
const flatTower: KeyRows = [
  [/^(model\.vision_tower\.)(?=embeddings\.|encoder\.|pre_layrnorm\.|post_layernorm\.|head\.)/, '$1vision_model.'],
];

/** Every spelling of LlavaForConditionalGeneration: in memory since 4.52, and what all versions write, with and without `vision_model`. */
export const llavaRows: KeyRows = [
  ...buffers,
  [/^language_model\.lm_head\./, 'lm_head.'],
  [/^language_model\.model\./, 'model.language_model.'],
  [/^(vision_tower|multi_modal_projector)\./, 'model.$1.'],
  ...flatTower,
];

const towerPrefix = /^(?:model\.)?vision_tower\./;

/** A tower alone out of its own folder, a whole CLIP or SigLIP, or a LLaVA. */
export const towerRows: KeyRows = [
  ...buffers,
  [/^(text_model|text_projection|visual_projection|(model\.)?language_model|(model\.)?multi_modal_projector|lm_head)\b/, null],
  [/^logit_(scale|bias)$/, null],
  // EfficientNet's classifier.
  [/^_fc\./, null],
  [towerPrefix, ''],
  [/^(?=embeddings\.|encoder\.|pre_layrnorm\.|post_layernorm\.|head\.)/, 'vision_model.'],
];

/** A language model alone out of its own folder or a LLaVA. */
export const languageRows: KeyRows = [
  ...buffers,
  [/^(model\.)?(vision_tower|multi_modal_projector)\./, null],
  [/^language_model\.lm_head\./, 'lm_head.'],
  [/^(language_model\.(model|transformer)|model\.language_model|model|transformer)\./, ''],
];

/** What the rows make of a key, null where it is no weight; a key that stays unknown comes out as far as they brought it. */
export function translate(key: string, rows: KeyRows, wanted: ReadonlySet<string>): string | null {
  let translated = key;
  for (const [pattern, spelling] of rows) {
    if (wanted.has(translated)) break;
    if (!pattern.test(translated)) continue;
    if (spelling === null) return null;
    translated = translated.replace(pattern, spelling);
  }
  return translated;
}

/** `source` under the wanted names; keys that stay unknown keep their own, so that loading reports them. */
export function translated(source: WeightSource, rows: KeyRows, wanted: ReadonlySet<string>): WeightSource {
  const origin = new Map<string, string>();
  for (const name of source.names) {
    const key = translate(name, rows, wanted);
    if (key === null) continue;
    // A tied head that was written all the same is the embeddings once more.
    if (key === 'lm_head.weight' && !wanted.has(key)) continue;
    const target = wanted.has(key) ? key : name;
    const other = origin.get(target);
    if (other !== undefined) throw new CheckpointError(`${source.path}: both ${other} and ${name} are ${target}`);
    origin.set(target, name);
  }
  const find = (key: string): string => {
    const name = origin.get(key);
    if (name === undefined) throw new CheckpointError(`${source.path}: no tensor "${key}"`);
    return name;
  };
  return {
    path: source.path,
    names: [...origin.keys()],
    shape: (key) => source.shape(find(key)),
    dtype: (key) => source.dtype(find(key)),
    tensor: (key, memory) => source.tensor(find(key), memory),
  };
}
