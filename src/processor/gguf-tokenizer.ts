import { CheckpointError } from '../errors.ts';
import { type GgufFile, openGguf } from '../tensor/gguf.ts';
import type { TokenizerFiles, TokenizerJson } from './tokenizer-files.ts';

/** What `tokenizer.ggml.token_type` says of a token. */
export const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A part of tokenizer.json. */
type Step = NonNullable<TokenizerJson['pre_tokenizer']>;

const byteLevel = (useRegex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex });
const split = (pattern: string) => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false });
const sequence = (...pretokenizers: Step[]) => ({ type: 'Sequence', pretokenizers });

/** llama.cpp's and tokenizer.json's way to cut words, with so many digits in one. */
const words = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** The same where capitals begin words. */
const casedWords = (() => {
  const [capitals, small, ending] = ['\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}', '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}', "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"];
  const lead = '[^\\r\\n\\p{L}\\p{N}]?';
  const rest = '\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
  return `${lead}[${capitals}]*[${small}]+${ending}|${lead}[${capitals}]+[${small}]*${ending}|${rest}`;
})();

/** How texts are cut into words before bytes are merged. `ignoreMerges`: a word that is a token stays whole; `composed`: texts are NFC. */
export interface WordCut {
  readonly preTokenizer: Step;
  readonly ignoreMerges?: true;
  readonly composed?: true;
}

/** Cuts by llama.cpp's names; where two are the same, the first is the one to write. */
export const wordCuts: Readonly<Record<string, WordCut>> = {
  'gpt-2': { preTokenizer: byteLevel(true) },
  'phi-2': { preTokenizer: byteLevel(true) },
  smollm: { preTokenizer: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)) },
  'llama-bpe': { preTokenizer: sequence(split(words('\\p{N}{1,3}')), byteLevel(false)), ignoreMerges: true },
  qwen2: { preTokenizer: sequence(split(words('\\p{N}')), byteLevel(false)), composed: true },
  stablelm2: { preTokenizer: sequence(split(words('\\p{N}')), byteLevel(false)) },
  'gpt-4o': { preTokenizer: sequence(split(casedWords), byteLevel(false)) },
};

/** What the kind of tokenizer decides in tokenizer.json. */
type Kind = Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer' | 'decoder' | 'model'>;

/** The vocabulary of a file. */
interface Vocabulary {
  readonly path: string;
  readonly tokens: readonly string[];
  readonly kind: (id: number) => number;
}

function list<Value extends string | number>(file: GgufFile, key: string, type: 'string' | 'number'): Value[] | undefined {
  const values = file.metadata.get(key);
  if (values === undefined) return undefined;
  if (Array.isArray(values) && values.every((value) => typeof value === type)) return values as Value[];
  throw new CheckpointError(`${file.path}: ${key} is not a list of ${type}s`);
}

function ofLength<Value>(path: string, key: string, values: readonly Value[] | undefined, length: number): readonly Value[] | undefined {
  if (values && values.length !== length) throw new CheckpointError(`${path}: ${key} has ${values.length} entries for ${length} tokens`);
  return values;
}

/** Merges out of the scores of a SentencePiece vocabulary, the best first: every cut of a token into two others. */
function mergesFromScores(tokens: readonly string[], scores: readonly number[], mergeable: (id: number) => boolean): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { readonly pair: [string, string]; readonly score: number; readonly order: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    if (!mergeable(id)) continue;
    for (let cut = 1; cut < token.length; cut++) {
      const code = token.charCodeAt(cut);
      if (code >= 0xdc00 && code < 0xe000) continue; // inside a surrogate pair
      const [left, right] = [token.slice(0, cut), token.slice(cut)];
      const [a, b] = [ids.get(left), ids.get(right)];
      if (a === undefined || b === undefined || !mergeable(a) || !mergeable(b)) continue;
      merges.push({ pair: [left, right], score: scores[id] ?? 0, order: a });
    }
  }
  return merges.sort((x, y) => y.score - x.score || x.order - y.order).map(({ pair }) => pair);
}

/** Byte-pair encoding over bytes, as GPT-2 and most models since have it. */
function byteLevelJson(file: GgufFile, { path, tokens }: Vocabulary): Kind {
  const name = String(file.metadata.get('tokenizer.ggml.pre') ?? 'gpt-2');
  const known = wordCuts[name];
  if (!known) throw new CheckpointError(`${path}: unknown pre-tokenizer "${name}"`, { hint: `known: ${Object.keys(wordCuts).join(', ')}` });
  const merges = list<string>(file, 'tokenizer.ggml.merges', 'string');
  if (!merges) throw new CheckpointError(`${path}: no tokenizer.ggml.merges`);
  return {
    normalizer: known.composed ? { type: 'NFC' } : null,
    pre_tokenizer: known.preTokenizer,
    decoder: byteLevel(true),
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map((merge) => {
        const space = merge.indexOf(' ', 1);
        return [merge.slice(0, space), merge.slice(space + 1)];
      }),
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: known.ignoreMerges ?? false,
    },
  };
}

/** SentencePiece's pieces with a score each, as Llama 2 and Gemma have them. */
function piecesJson(file: GgufFile, { path, tokens, kind }: Vocabulary): Kind {
  const scores = ofLength(path, 'tokenizer.ggml.scores', list<number>(file, 'tokenizer.ggml.scores', 'number'), tokens.length);
  if (!scores) throw new CheckpointError(`${path}: no tokenizer.ggml.scores`);
  const prefix = file.metadata.get('tokenizer.ggml.add_space_prefix') !== false;
  const unknown = tokens.find((_, id) => kind(id) === kinds.unknown) ?? null;
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const back = [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }];
  return {
    normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] } : spaces,
    pre_tokenizer: null,
    decoder: { type: 'Sequence', decoders: prefix ? [...back, { type: 'Strip', content: ' ', start: 1, stop: 0 }] : back },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: mergesFromScores(tokens, scores, (id) => kind(id) !== kinds.control && kind(id) !== kinds.unknown),
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
    },
  };
}

const models: Readonly<Record<string, (file: GgufFile, vocabulary: Vocabulary) => Kind>> = { gpt2: byteLevelJson, llama: piecesJson };

/** The tokenizer and the chat template of a GGUF file as `tokenizer.json` and `tokenizer_config.json` would have them. Throws CheckpointError. */
export function ggufTokenizerFiles(path: string): TokenizerFiles {
  const file = openGguf(path);
  const { metadata } = file;
  const tokens = list<string>(file, 'tokenizer.ggml.tokens', 'string');
  if (!tokens) throw new CheckpointError(`${path}: no tokenizer.ggml.tokens`);
  const types = ofLength(path, 'tokenizer.ggml.token_type', list<number>(file, 'tokenizer.ggml.token_type', 'number'), tokens.length);
  const vocabulary: Vocabulary = { path, tokens, kind: (id) => types?.[id] ?? 1 };
  const name = String(metadata.get('tokenizer.ggml.model'));
  const make = Object.hasOwn(models, name) ? models[name] : undefined;
  if (!make) throw new CheckpointError(`${path}: unknown tokenizer "${name}"`, { hint: `known: ${Object.keys(models).join(', ')}` });
  const special = (id: number): boolean => vocabulary.kind(id) === kinds.control || vocabulary.kind(id) === kinds.unknown;
  const added = tokens
    .map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: special(id),
    }))
    .filter(({ id }) => special(id) || vocabulary.kind(id) === kinds.userDefined);
  const tokenAt = (key: string): string | undefined => tokens[Number(metadata.get(`tokenizer.ggml.${key}_token_id`))];
  const bos = tokenAt('bos');
  const addsBos = bos !== undefined && metadata.get('tokenizer.ggml.add_bos_token') === true;
  const single = [...(addsBos ? [{ SpecialToken: { id: bos, type_id: 0 } }] : []), { Sequence: { id: 'A', type_id: 0 } }];
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: bos,
    eos_token: tokenAt('eos'),
    unk_token: tokenAt('unknown'),
    pad_token: tokenAt('padding'),
    chat_template: metadata.get('tokenizer.chat_template'),
    clean_up_tokenization_spaces: false,
  };
  return {
    json: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      ...make(file, vocabulary),
      post_processor: {
        type: 'TemplateProcessing',
        single,
        pair: [...single, { Sequence: { id: 'B', type_id: 1 } }],
        special_tokens: addsBos ? { [bos]: { id: bos, ids: [tokens.indexOf(bos)], tokens: [bos] } } : {},
      },
    },
    config: Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined)),
  };
}
