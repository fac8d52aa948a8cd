import { Tokenizer as Engine } from '@huggingface/tokenizers';
import { CheckpointError, ConfigError } from '../errors.ts';
import {
  type AddedToken,
  addSpecialToken,
  modelVocabulary,
  readTokenizerFiles,
  type TokenizerFiles,
  type TokenizerJson,
  writeTokenizerFiles,
} from './tokenizer-files.ts';

/** What stands right before a piece of text: nothing, a special token or image, or other text that it goes on from. */
export type Before = 'nothing' | 'special' | 'text';

/** The parts of `@huggingface/tokenizers` that are used here (its own declarations do not resolve under nodenext). */
interface TextEngine {
  model: unknown;
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  id_to_token(id: number): string | undefined;
}

/** Text to ids and back, as the `tokenizer.json` of a checkpoint says; ids equal those of Python's `tokenizers`. */
export class Tokenizer {
  readonly files: TokenizerFiles;
  /** Special tokens by their text, longest first. They are never made from text by `encode`. */
  readonly special: ReadonlyMap<string, AddedToken>;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  readonly padToken: string | undefined;
  readonly unkToken: string | undefined;
  /** Whether this tokenizer puts its bos token before every text by itself, as Llama's does. */
  readonly addsBos: boolean;
  readonly #engines: Readonly<Record<Before, TextEngine>>;
  readonly #decoder: TextEngine;
  readonly #vocabulary: ReadonlyMap<string, number>;
  readonly #neverFromText: ReadonlySet<number>;
  /** Added tokens that text may hold, where what stands behind them is read otherwise than what goes on from text. */
  readonly #breaks: readonly string[];

  constructor(files: TokenizerFiles) {
    this.files = files;
    const { json, config } = files;
    const special = json.added_tokens.filter((token) => token.special).sort((a, b) => b.content.length - a.content.length);
    this.special = new Map(special.map((token) => [token.content, token]));
    this.bosToken = tokenText(config['bos_token']);
    this.eosToken = tokenText(config['eos_token']);
    this.padToken = tokenText(config['pad_token']);
    this.unkToken = tokenText(config['unk_token']) ?? tokenText(json.model['unk_token']);
    this.addsBos = this.bosToken !== undefined && addsToken(json, config['add_bos_token'], this.bosToken);
    this.#vocabulary = modelVocabulary(json);
    this.#neverFromText = new Set(special.filter((token) => token.content !== this.unkToken).map((token) => token.id));
    this.#decoder = engine(files, json, this.unkToken);
    const alike = JSON.stringify(stepsBefore(json, 'special')) === JSON.stringify(stepsBefore(json, 'text'));
    this.#breaks = alike ? [] : json.added_tokens.filter((token) => !token.special).map((token) => token.content);
    this.#engines = {
      nothing: textEngine(this.#decoder, files, this.unkToken, 'nothing'),
      special: textEngine(this.#decoder, files, this.unkToken, 'special'),
      text: textEngine(this.#decoder, files, this.unkToken, 'text'),
    };
  }

  /** Opens the tokenizer of a checkpoint folder. Throws CheckpointError. */
  static async open(folder: string): Promise<Tokenizer> {
    const files = await readTokenizerFiles(folder);
    try {
      return new Tokenizer(files);
    } catch (cause) {
      throw new CheckpointError(`${folder}/tokenizer.json cannot be used: ${(cause as Error).message}`, {
        hint: 'it may need a part that @huggingface/tokenizers does not have',
        cause,
      });
    }
  }

  /** Writes `tokenizer.json` and `tokenizer_config.json`, which Python's AutoTokenizer opens. */
  async save(folder: string): Promise<void> {
    await writeTokenizerFiles(folder, this.files);
  }

  /** The same tokenizer with one more special token, on the first id that is free or the one given; unchanged when it has it. */
  withSpecialToken(content: string, id?: number): Tokenizer {
    const files = addSpecialToken(this.files, content, id);
    return files === this.files ? this : new Tokenizer(files);
  }

  /** Number of ids, i.e. one more than the largest: the least vocabulary that a language model needs. */
  get size(): number {
    let largest = -1;
    for (const id of this.#vocabulary.values()) largest = Math.max(largest, id);
    for (const { id } of this.files.json.added_tokens) largest = Math.max(largest, id);
    return largest + 1;
  }

  /** The id of exactly this token, or undefined. */
  idOf(token: string): number | undefined {
    return (
      this.special.get(token)?.id ??
      this.files.json.added_tokens.find((added) => added.content === token)?.id ??
      this.#vocabulary.get(token)
    );
  }

  /** The id of a token that has to be there. Throws ConfigError. */
  requireId(token: string): number {
    const id = this.idOf(token);
    if (id === undefined) {
      throw new ConfigError(`the tokenizer has no token ${JSON.stringify(token)}`, {
        hint: 'add it to added_tokens of tokenizer.json, or use another template',
      });
    }
    return id;
  }

  /** The token of an id as the vocabulary spells it, or undefined for ids beyond the vocabulary. */
  tokenOf(id: number): string | undefined {
    return this.#decoder.id_to_token(id);
  }

  /**
   * The ids of plain text, without bos or eos. Special tokens inside the text stay text, as with Python's `split_special_tokens=True`.
   * `after` says what stands before it, because some tokenizers (Llama's) put a space before text that does not go on from other text.
   */
  encode(text: string, { after = 'nothing' }: { after?: Before } = {}): number[] {
    if (text === '') return [];
    const added = after === 'text' ? firstOf(text, this.#breaks) : 0;
    // what stands behind an added token begins anew, with a space where the tokenizer puts one
    if (added > 0 && added < text.length)
      return [...this.encode(text.slice(0, added), { after }), ...this.encode(text.slice(added), { after: 'special' })];
    const ids = this.#engines[after].encode(text, { add_special_tokens: false }).ids;
    if (!ids.some((id) => this.#neverFromText.has(id))) return ids;
    // a vocabulary that holds its special tokens as words finds them in text too: cut each after its first character
    const pieces = cutSpecialTokens(text, this.special.keys());
    return pieces.flatMap((piece, i) => this.#engines[i === 0 ? after : 'text'].encode(piece, { add_special_tokens: false }).ids);
  }

  /** The text of ids; special tokens are left out unless asked for, and so are ids beyond the vocabulary. */
  decode(ids: Iterable<number>, { keepSpecial = false }: { keepSpecial?: boolean } = {}): string {
    const known = [...ids].filter((id) => this.#decoder.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    // as transformers 5: tidying English spaces would spoil what byte-pair encoding spells exactly
    const cleanUp = this.files.config['clean_up_tokenization_spaces'] === true && this.files.json.model['type'] !== 'BPE';
    return this.#decoder.decode(known, { skip_special_tokens: !keepSpecial, clean_up_tokenization_spaces: cleanUp });
  }
}

function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return typeof value === 'object' && value !== null && 'content' in value ? String(value.content) : undefined;
}

/** Whether the post-processor begins a text with `token`; the config's flag decides where the post-processor is silent. */
function addsToken({ post_processor: processor }: TokenizerJson, flag: unknown, token: string): boolean {
  const steps = processor?.type === 'Sequence' && Array.isArray(processor['processors']) ? processor['processors'] : [processor];
  const template = steps.find((step) => step?.type === 'TemplateProcessing');
  const first = template?.single?.[0]?.SpecialToken?.id;
  return template === undefined ? flag === true : first === token;
}

function engine(files: TokenizerFiles, json: object, unkToken: string | undefined): TextEngine {
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...json };
  return new Engine(parts, { ...files.config, unk_token: unkToken }) as TextEngine;
}

/** A tokenizer for text alone: no special tokens, and the prefix space that fits what stands before. It shares the vocabulary of `full`. */
function textEngine(full: TextEngine, files: TokenizerFiles, unkToken: string | undefined, after: Before): TextEngine {
  const { json } = files;
  const made = engine(
    files,
    {
      ...stepsBefore(json, after),
      post_processor: null,
      decoder: null,
      added_tokens: json.added_tokens.filter((token) => !token.special),
      model: { type: 'BPE', vocab: {}, merges: [] },
    },
    unkToken,
  );
  made.model = full.model;
  return made;
}

/** What happens to text before its words are looked up. */
function stepsBefore(json: TokenizerJson, after: Before): { normalizer: Part | null; pre_tokenizer: Part | null } {
  const cut = allDigits(json.pre_tokenizer ?? null);
  return {
    normalizer: after === 'text' ? withoutPrepend(json.normalizer) : (json.normalizer ?? null),
    pre_tokenizer: inWords(json, after === 'nothing' ? cut : withoutPrefixSpace(cut, after)),
  };
}

interface Part {
  readonly type?: string;
  readonly [key: string]: unknown;
}

function withoutPrepend(normalizer: Part | null | undefined): Part | null {
  if (!normalizer || normalizer.type === 'Prepend') return null;
  if (normalizer.type !== 'Sequence') return normalizer;
  const normalizers = (normalizer['normalizers'] as Part[]).map(withoutPrepend).filter((part) => part !== null);
  return { ...normalizer, normalizers };
}

/** The engine cuts at 0 to 9 where Python's cuts at every number of Unicode. */
function allDigits(part: Part | null): Part | null {
  if (part?.type === 'Sequence') return { ...part, pretokenizers: (part['pretokenizers'] as Part[]).map(allDigits) };
  if (part?.type !== 'Digits') return part;
  const pattern = { Regex: part['individual_digits'] === true ? '\\p{N}' : '\\p{N}+' };
  return { type: 'Split', pattern, behavior: 'Isolated', invert: false };
}

function withoutPrefixSpace(part: Part | null | undefined, after: 'special' | 'text'): Part | null {
  if (!part) return null;
  if (part.type === 'Sequence') {
    return { ...part, pretokenizers: (part['pretokenizers'] as Part[]).map((inner) => withoutPrefixSpace(inner, after)) };
  }
  if (part.type === 'Metaspace' && (after === 'text' || part['prepend_scheme'] === 'first')) return { ...part, prepend_scheme: 'never' };
  if (part.type === 'ByteLevel' && after === 'text') return { ...part, add_prefix_space: false };
  return part;
}

/**
 * Llama's tokenizers merge over a whole text at once. Where no token has a space after another character, no merge crosses the begin of a word, and
 * cutting there gives the same ids from merges that are remembered for each word.
 */
function inWords({ model }: TokenizerJson, part: Part | null): Part | null {
  const whole = part === null || (part.type === 'Metaspace' && part['split'] === false);
  if (!whole || model['type'] !== 'BPE' || model['byte_fallback'] !== true || Object.keys(model.vocab).some((token) => /[^▁]▁/.test(token)))
    return part;
  const words = { type: 'Split', pattern: { Regex: '▁+[^▁]*|[^▁]+' }, behavior: 'Isolated', invert: false };
  return part === null ? words : { type: 'Sequence', pretokenizers: [part, words] };
}

/** Where the first of these tokens begins in a text, its length where there is none. */
function firstOf(text: string, tokens: readonly string[]): number {
  return tokens.reduce((first, token) => {
    const at = text.indexOf(token);
    return at < 0 ? first : Math.min(first, at);
  }, text.length);
}

function cutSpecialTokens(text: string, special: Iterable<string>): string[] {
  const cuts = new Set<number>();
  for (const token of special) {
    for (let at = text.indexOf(token); at >= 0; at = text.indexOf(token, at + 1)) cuts.add(at + 1);
  }
  const ends = [...cuts, text.length].sort((a, b) => a - b);
  return ends.map((end, i) => text.slice(i === 0 ? 0 : ends[i - 1], end));
}
