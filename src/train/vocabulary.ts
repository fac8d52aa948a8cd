import { languageModels } from '../model/language/index.ts';
import type { LanguageModel } from '../model/language/language-model.ts';
import type { PartConfig } from '../model/part.ts';
import { pick } from '../model/registry.ts';
import { noGrad } from '../tensor/autograd.ts';
import { cat } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';
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
    tensor: (name) => withRows(find(name), shapes.get(name)?.[0] ?? 0),
  });
  return { model: wider, config: grown };
}

function withRows(weight: Tensor, rows: number): Tensor {
  const missing = rows - weight.size(0);
  if (missing === 0) return weight;
  using scope = new Scope();
  const [, ...rest] = weight.shape;
  return scope.keep(noGrad(() => cat([weight, weight.mean(0, { keepDim: true }).expand(missing, ...rest)])));
}
