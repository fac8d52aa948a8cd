import { ConfigError } from '../../errors.ts';
import { kinds, type WordCut, wordCuts } from '../../processor/gguf-tokenizer.ts';
import type { Tokenizer } from '../../processor/tokenizer.ts';
import { modelVocabulary, type TokenizerJson } from '../../processor/tokenizer-files.ts';
import type { GgufField } from '../../tensor/gguf-write.ts';

type Fields = Record<string, GgufField>;
type Step = NonNullable<TokenizerJson['pre_tokenizer']>;

/** Only what decides where texts are cut, so that files that spell defaults differently compare equal. */
function essence(step: Step | null | undefined): string {
  if (!step) return 'none';
  if (step.type === 'Sequence') return (step['pretokenizers'] as Step[]).map(essence).join(' > ');
  if (step.type === 'ByteLevel') return `bytes ${step['add_prefix_space'] === true} ${step['use_regex'] !== false}`;
  if (step.type === 'Split') return `split ${JSON.stringify(step['pattern'])} ${step['behavior']} ${step['invert'] === true}`;
  if (step.type === 'Digits') return `digits ${step['individual_digits'] === true}`;
  return JSON.stringify(step);
}

function cutName({ pre_tokenizer, normalizer, model }: TokenizerJson): string {
  const ignoreMerges = model['ignore_merges'] === true;
  const composed = normalizer?.type === 'NFC';
  const same = Object.entries(wordCuts).filter(([, cut]) => essence(cut.preTokenizer) === essence(pre_tokenizer));
  const matches = ({ ignoreMerges: whole, composed: nfc }: WordCut): boolean =>
    (whole ?? false) === ignoreMerges && (nfc ?? false) === composed;
  // NFC changes next to no text, and llama.cpp has no word for it
  const [name] =
    same.find(([, cut]) => matches(cut)) ?? same.find(([, { ignoreMerges: whole }]) => (whole ?? false) === ignoreMerges) ?? [];
  if (name !== undefined) return name;
  throw new ConfigError('gguf: the tokenizer cuts texts into words in a way that llama.cpp is not known to have', {
    hint: `known are those of ${Object.keys(wordCuts).join(', ')}`,
  });
}

const pairs = ({ model }: TokenizerJson): [string, string][] =>
  (model['merges'] as (string | [string, string])[]).map((merge) => {
    if (typeof merge !== 'string') return merge;
    const space = merge.indexOf(' ', 1);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });

/** Tokens and their kinds for every row of the embeddings. */
function vocabulary({ files: { json }, unkToken }: Tokenizer, rows: number, pieces: boolean): { tokens: string[]; types: number[] } {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const types = new Array<number>(rows).fill(kinds.unused);
  for (const [token, id] of modelVocabulary(json)) {
    if (id >= rows) continue;
    tokens[id] = token;
    types[id] = pieces && /^<0x[0-9A-F]{2}>$/.test(token) ? kinds.byte : token === unkToken && pieces ? kinds.unknown : kinds.normal;
  }
  for (const { id, content, special } of json.added_tokens) {
    if (id >= rows) continue;
    // user-defined pieces stand in texts as they are, with plain spaces
    tokens[id] = special ? content : content.replaceAll('▁', ' ');
    types[id] = content === unkToken && pieces ? kinds.unknown : special ? kinds.control : kinds.userDefined;
  }
  return { tokens, types };
}

/** A piece is the better the earlier a merge makes it: the order in which SentencePiece takes them. */
function scores(json: TokenizerJson, tokens: readonly string[]): number[] {
  const ranks = new Map<string, number>();
  for (const [rank, pair] of pairs(json).entries()) {
    const made = pair.join('');
    if (!ranks.has(made)) ranks.set(made, rank);
  }
  return tokens.map((token) => -(ranks.get(token) ?? 1e6));
}

/** Whether a text that goes on from nothing gets a space before it. */
function addsSpace({ normalizer, pre_tokenizer }: TokenizerJson): boolean {
  const steps = normalizer?.type === 'Sequence' ? (normalizer['normalizers'] as Step[]) : normalizer ? [normalizer] : [];
  if (steps.some(({ type }) => type === 'Prepend')) return true;
  return pre_tokenizer?.type === 'Metaspace' && pre_tokenizer['prepend_scheme'] !== 'never';
}

/** What llama.cpp makes of texts that this tokenizer does not. */
export function tokenizerNotes({ files: { json } }: Tokenizer): string[] {
  const { pre_tokenizer: step } = json;
  if (!isPieces(json) || step?.type !== 'Metaspace' || !addsSpace(json)) return [];
  return [
    'llama.cpp puts a space before every text, also one that begins with a space, and behind every special token: this tokenizer does not',
  ];
}

/** What makes a tokenizer SentencePiece's: merges over whole texts with ▁ for spaces, and bytes as the last resort. */
const isPieces = ({ model }: TokenizerJson): boolean => model['byte_fallback'] === true;

function kindFields(json: TokenizerJson, tokens: readonly string[]): Fields {
  if (isPieces(json)) {
    return {
      'tokenizer.ggml.model': { type: 'string', value: 'llama' },
      'tokenizer.ggml.pre': { type: 'string', value: 'default' },
      'tokenizer.ggml.scores': { type: 'float32', value: scores(json, tokens) },
      'tokenizer.ggml.add_space_prefix': { type: 'bool', value: addsSpace(json) },
    };
  }
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: cutName(json) },
    'tokenizer.ggml.merges': { type: 'string', value: pairs(json).map((pair) => pair.join(' ')) },
  };
}

/**
 * The metadata of a tokenizer and a chat template for a vocabulary of `rows`, as llama.cpp's converter writes them. Throws ConfigError for a
 * tokenizer of a kind that llama.cpp lacks.
 */
export function tokenizerFields(tokenizer: Tokenizer, { rows, template }: { rows: number; template: string | undefined }): Fields {
  const { json } = tokenizer.files;
  const kind = String(json.model['type'] ?? 'BPE');
  if (kind !== 'BPE') {
    throw new ConfigError(`gguf: a tokenizer of the kind ${kind}, which llama.cpp lacks`, { hint: 'byte-level and SentencePiece BPE go' });
  }
  const { tokens, types } = vocabulary(tokenizer, rows, isPieces(json));
  const ids = { bos: tokenizer.bosToken, eos: tokenizer.eosToken, unknown: tokenizer.unkToken, padding: tokenizer.padToken };
  const named = Object.entries(ids).flatMap(([name, token]) => {
    const id = token === undefined ? undefined : tokenizer.idOf(token);
    return id === undefined ? [] : [[`tokenizer.ggml.${name}_token_id`, { type: 'uint32', value: id }] as const];
  });
  return {
    ...kindFields(json, tokens),
    'tokenizer.ggml.tokens': { type: 'string', value: tokens },
    'tokenizer.ggml.token_type': { type: 'int32', value: types },
    ...Object.fromEntries(named),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: tokenizer.addsBos },
    ...(template !== undefined && { 'tokenizer.chat_template': { type: 'string', value: template } }),
  };
}
