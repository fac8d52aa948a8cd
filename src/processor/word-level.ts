import { DataError } from '../errors.ts';
import { Tokenizer } from './tokenizer.ts';
import type { AddedToken } from './tokenizer-files.ts';

/** The special tokens of a word-level tokenizer, in the order of their ids. */
const wordLevelSpecialTokens = { pad: '<pad>', unk: '<unk>', bos: '<s>', eos: '</s>', image: '<image>' } as const;

/**
 * A tokenizer whose vocabulary is a list of words: text is cut at white space and around every punctuation mark, and a word that is not listed
 * becomes `<unk>`. `lowercase` folds case first. Python's AutoTokenizer opens what it saves, with equal ids. Throws DataError for a word that is never cut out.
 */
export function wordLevelTokenizer(words: Iterable<string>, { lowercase = false }: { lowercase?: boolean } = {}): Tokenizer {
  const special = Object.values(wordLevelSpecialTokens);
  const listed = [...new Set([...words].map((word) => (lowercase ? word.toLowerCase() : word)))];
  for (const word of listed) {
    if (splitWords(word).length !== 1 || special.some((token) => token === word)) {
      throw new DataError(`${JSON.stringify(word)} cannot be one word of a word-level tokenizer`, {
        hint: 'pass the pieces that splitWords(text) gives; special tokens are added by themselves',
      });
    }
  }
  const added: AddedToken[] = special.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const { pad, unk, bos, eos, image } = wordLevelSpecialTokens;
  return new Tokenizer({
    json: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: lowercase ? { type: 'Lowercase' } : null,
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'WhitespaceSplit' },
          { type: 'Split', pattern: { Regex: punctuation.source }, behavior: 'Isolated', invert: false },
        ],
      },
      post_processor: null,
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: { type: 'WordLevel', vocab: Object.fromEntries([...special, ...listed].map((word, id) => [word, id])), unk_token: unk },
    },
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      pad_token: pad,
      unk_token: unk,
      bos_token: bos,
      eos_token: eos,
      image_token: image,
      clean_up_tokenization_spaces: false,
      model_max_length: 1_000_000,
    },
  });
}

/** The words of a text as a word-level tokenizer cuts it; what to collect for its vocabulary. */
export function splitWords(text: string): string[] {
  return text.split(/\s+/u).flatMap((chunk) => chunk.split(/(\p{P}|[$+<=>^`|~])/u).filter((piece) => piece !== ''));
}

const punctuation = /\p{P}|[$+<=>^`|~]/u;
