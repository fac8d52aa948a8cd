import type { TinyLlavaConfig } from '../model/config.ts';
import { withMeanRows } from '../model/mean-rows.ts';
import { TinyLlava } from '../model/tinyllava.ts';
import type { WeightSource } from '../tensor/safetensors.ts';
import { Scope } from '../tensor/scope.ts';
import type { Source } from './source.ts';

const imageToken = '<image>';

/** The weights where those of `wanted` have more rows: the vocabulary's. */
function grown(weights: WeightSource, wanted: TinyLlava): WeightSource {
  const shapes = new Map(Array.from(wanted.namedParameters(), ([key, { shape }]) => [key, shape]));
  const shape = (key: string): readonly number[] => shapes.get(key) ?? weights.shape(key);
  return {
    ...weights,
    shape,
    tensor: (key, memory) => {
      const [rows = 0] = shape(key);
      if (rows === weights.shape(key)[0]) return weights.tensor(key, memory);
      using scope = new Scope();
      return scope.keep(withMeanRows(weights.tensor(key), rows));
    },
  };
}

/**
 * The model with a token for images that its tokenizer and its vocabulary know, which layouts other than transformers' do without and
 * transformers looks up. Unchanged where it has one, and for a language model alone.
 */
export function withImageToken(source: Source): Source {
  const { config, tokenizer, model } = source;
  const { imageTokenId } = config;
  if (imageTokenId === undefined) return source;
  const token = tokenizer?.tokenOf(imageTokenId);
  const known = tokenizer === undefined || (token !== undefined && tokenizer.special.has(token));
  const extended = known ? tokenizer : tokenizer.withSpecialToken(imageToken);
  const id = known ? imageTokenId : (extended?.requireId(imageToken) ?? imageTokenId);
  const { vocabSize } = model.languageModel;
  if (known && id < vocabSize) return source;
  const next: TinyLlavaConfig = { ...config, imageTokenId: id, language: { ...config.language, vocabSize: Math.max(vocabSize, id + 1) } };
  const wanted = new TinyLlava(next);
  const notes = [
    ...source.notes,
    `${imageToken} has the id ${id}${id < vocabSize ? '' : ', and a row of the embeddings that is the mean of the others'}`,
  ];
  return { ...source, config: next, model: wanted, tokenizer: extended, weights: grown(source.weights, wanted), notes };
}
