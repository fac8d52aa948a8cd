import { languageModels } from '../model/language/index.ts';
import type { LanguageModel } from '../model/language/language-model.ts';
import { withMeanRows } from '../model/mean-rows.ts';
import type { PartConfig } from '../model/part.ts';
import { pick } from '../model/registry.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** A language model and its settings. */
export interface Language {
  readonly model: LanguageModel;
  readonly config: PartConfig;
}

/**
 * The language model with room for `size` ids, unchanged when it has it: embeddings and head get rows that are the mean of the others, so
 * that transformers, which looks up the image token too, finds one.
 */
export function withVocabulary({ model, config }: Language, size: number): Language {
  if (model.vocabSize >= size) return { model, config };
  const grown = { ...config, vocabSize: size };
  const wider = pick(languageModels, 'language model', config.type).create(grown, undefined);
  const old = new Map(model.namedParameters());
  const shapes = new Map(Array.from(wider.namedParameters(), ([name, { shape }]) => [name, shape] as const));
  const find = (name: string): Tensor => old.get(name) as Tensor;
  wider.load({
    path: 'the language model',
    names: [...old.keys()],
    shape: (name) => shapes.get(name) ?? [],
    dtype: (name) => find(name).dtype,
    tensor: (name) => withMeanRows(find(name), shapes.get(name)?.[0] ?? 0),
  });
  return { model: wider, config: grown };
}
