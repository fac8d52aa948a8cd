/** A parsed tokenizer.json or tokenizer_config.json. @typedef {Record<string, any>} Json */

/** @param {number} id @param {string} content */
const special = (id, content, flags = {}) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
  ...flags,
});

/** Roles between special tokens, the text of each turn on lines of its own. @param {string} role @param {string} end */
const turns = (role, end, before = '') =>
  `${before}{%- for message in messages -%}{{ ${role} + '\\n' + message['content'] + ${end} + '\\n' }}{%- endfor -%}` +
  `{%- if add_generation_prompt -%}{{ ${role.replace("message['role']", "'assistant'")} + '\\n' }}{%- endif -%}`;
const bracketed = "'<|' + message['role'] + '|>'";

/** TinyLlama 1.1B Chat has Llama 2's vocabulary. @param {Json} config */
export const tinyLlamaConfig = (config) => ({ ...config, pad_token: '</s>', chat_template: turns(bracketed, 'eos_token') });

/** Phi-3 mini: Llama 2's vocabulary and eleven tokens that swallow the white space behind them. @param {Json} json */
export function phi3Json(json) {
  const names = ['endoftext', 'assistant', 'placeholder1', 'placeholder2', 'placeholder3', 'placeholder4', 'system', 'end'];
  const added = [...names, 'placeholder5', 'placeholder6', 'user'].map((name, i) =>
    special(32_000 + i, `<|${name}|>`, { rstrip: name !== 'endoftext' }),
  );
  const kept = json['added_tokens'].map((/** @type {Json} */ token) =>
    token['content'] === '</s>' ? { ...token, rstrip: true, special: false } : token,
  );
  return { ...json, added_tokens: [...kept, ...added] };
}

/** @param {Json} config */
export const phi3Config = ({ added_tokens_decoder: _, ...config }) => ({
  ...config,
  eos_token: '<|endoftext|>',
  pad_token: '<|endoftext|>',
  chat_template: turns(bracketed, "'<|end|>'", '{{ bos_token }}'),
});

/** Qwen2 and 2.5: Qwen3's vocabulary without the tokens that mark thoughts and what tools answer. @param {Json} json */
export const qwen2Json = (json) => ({
  ...json,
  added_tokens: json['added_tokens'].filter((/** @type {Json} */ token) => token['id'] < 151_665),
});

const qwenSystem = '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n';

/** @param {Json} config */
export const qwen2Config = ({ added_tokens_decoder: _, ...config }) => ({
  ...config,
  chat_template: turns(
    "'<|im_start|>' + message['role']",
    "'<|im_end|>'",
    `{%- if messages[0]['role'] != 'system' -%}{{ '${qwenSystem}' }}{%- endif -%}`,
  ),
});

/** Phi-1, 1.5 and 2 (CodeGen): GPT-2's vocabulary, and runs of spaces and tabs. @param {Json} vocab @param {string} bpe */
export function codeGenJson(vocab, bpe) {
  const runs = [...Array.from({ length: 30 }, (_, i) => ' '.repeat(31 - i)), ...Array.from({ length: 8 }, (_, i) => '\t'.repeat(9 - i))];
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      special(50_256, '<|endoftext|>'),
      ...runs.map((run, i) => special(50_257 + i, run, { normalized: true, special: false })),
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: { ...byteLevel, trim_offsets: false },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges: bpe.trim().split(/\r?\n/).slice(1),
    },
  };
}

export const codeGenConfig = {
  tokenizer_class: 'CodeGenTokenizer',
  add_prefix_space: false,
  bos_token: '<|endoftext|>',
  eos_token: '<|endoftext|>',
  unk_token: '<|endoftext|>',
  model_max_length: 2048,
};

/** StableLM 2's arcade100k: cl100k's vocabulary with digits one by one, texts composed, and other special tokens. @param {Json} json */
export function arcadeJson(json) {
  const code = ['gh_stars', 'filename', 'issue_start', 'issue_comment', 'issue_closed', 'jupyter_start', 'jupyter_text', 'jupyter_code'];
  code.push('jupyter_output', 'empty_output', 'commit_before', 'commit_msg', 'commit_after', 'reponame');
  const names = ['endoftext', 'fim_prefix', 'fim_middle', 'fim_suffix', 'fim_pad'].map((name) => `<|${name}|>`);
  names.push(...code.map((name) => `<${name}>`), '<|endofprompt|>', '<|im_start|>', '<|im_end|>', '<|pause|>');
  names.push(...Array.from({ length: 8 }, (_, i) => `<|reg${i}|>`), '<|extra0|>');
  const [split, bytes] = json['pre_tokenizer'].pretokenizers;
  const oneDigit = split.pattern.Regex.replace('\\p{N}{1,3}', '\\p{N}');
  const vocab = Object.fromEntries(Object.entries(json['model'].vocab).filter(([, id]) => id < 100_256));
  // Python numbers added tokens anew unless the vocabulary says their ids, and one id is free before these
  for (const [i, name] of names.entries()) vocab[name] = 100_257 + i;
  return {
    ...json,
    added_tokens: names.map((name, i) => special(100_257 + i, name)),
    normalizer: { type: 'NFC' },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [{ ...split, pattern: { Regex: oneDigit } }, bytes] },
    model: { ...json['model'], vocab },
  };
}

export const arcadeConfig = {
  tokenizer_class: 'PreTrainedTokenizerFast',
  bos_token: '<|endoftext|>',
  eos_token: '<|endoftext|>',
  pad_token: '<|endoftext|>',
  unk_token: '<|endoftext|>',
  clean_up_tokenization_spaces: false,
  chat_template: turns(bracketed, 'eos_token'),
};
