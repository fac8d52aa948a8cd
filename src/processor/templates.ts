import { ConfigError } from '../errors.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A chat template by name: its Jinja text, and the special tokens that it writes. */
interface NamedTemplate {
  readonly source: string;
  readonly tokens: readonly string[];
}

// images that come first stand on lines of their own, as in LLaVA's training data; later ones stay where they are in the text
const content = `{%- macro words(content) -%}
  {%- if content is string -%}
    {{ content }}
  {%- else -%}
    {%- set seen = namespace(text=false) -%}
    {%- for part in content -%}
      {%- if part.type == 'text' -%}
        {{ part.text }}
        {%- set seen.text = true -%}
      {%- else -%}
        {{ '<image>' if seen.text else '<image>\\n' }}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
`;

// images in front of everything that is said
const apart = `{%- macro parts(content, type) -%}
  {%- if content is not string -%}
    {%- for part in content if part.type == type -%}
      {{ part.text if type == 'text' else '<image>' }}
    {%- endfor -%}
  {%- elif type == 'text' -%}
    {{ content }}
  {%- endif -%}
{%- endmacro -%}
{%- macro words(content) -%}
  {{ parts(content, 'text') }}
{%- endmacro -%}
`;

/** The conversation style of Vicuna, as LLaVA-1.5 and TinyLLaVA Factory write it: arXiv:2310.03744. `begin` defines `words`. */
function vicuna(endOfTurn: string, { begin = content, beforeQuestion = '' } = {}): NamedTemplate {
  const source = `${begin}
{%- if messages[0].role == 'system' -%}
  {{ words(messages[0].content) + ' ' }}
{%- else -%}
  {{ "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. " }}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}
    ${beforeQuestion}{{ 'USER: ' + words(message.content) + ' ' }}
  {%- elif message.role == 'assistant' -%}
    {{ 'ASSISTANT: ' + words(message.content) + '${endOfTurn}' }}
  {%- elif not loop.first -%}
    {{ raise_exception('only the first message may be a system message') }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ 'ASSISTANT:' }}
{%- endif -%}
`;
  return { source, tokens: [endOfTurn] };
}

/** Turns under the name of who speaks. */
function turns(open: string, close: string, endOfTurn: string): NamedTemplate {
  const source = `${content}
{%- for message in messages -%}
  {{ '${open}' + message.role + '${close}' + words(message.content) + '${endOfTurn}' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ '${open}assistant${close}' }}
{%- endif -%}
`;
  const tokens = ['system', 'user', 'assistant'].flatMap((role) => `${open}${role}${close}${endOfTurn}`.match(/<\|.*?\|>/g) ?? []);
  return { source, tokens: [...new Set(tokens)] };
}

// captions: the question is dropped, and the newline is what ends the caption
const plain = `{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {%- if message.content is string -%}
      {{ message.content + '\\n' }}
    {%- else -%}
      {%- for part in message.content -%}
        {{ part.text }}
      {%- endfor -%}
      {{ '\\n' }}
    {%- endif -%}
  {%- elif message.content is string -%}
    {{ '<image>' if '<image>' in message.content else '' }}
  {%- else -%}
    {%- for part in message.content if part.type == 'image' -%}
      {{ '<image>' }}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
`;

const tiny = `${content}
{%- for message in messages -%}
  {{ words(message.content) + (eos_token if message.role == 'assistant' else '\\n') }}
{%- endfor -%}
`;

// one question about one image, in the words of nanoVLM's code up to 0.2
const nanovlm = `${apart}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}
    {{ parts(message.content, 'image') + 'Question: ' + words(message.content) + ' Answer:' }}
  {%- else -%}
    {{ words(message.content) + (eos_token if message.role == 'assistant' else '\\n') }}
  {%- endif -%}
{%- endfor -%}
`;

/**
 * The chat templates that recipes name. `prismatic` has the first question's images in front of the system text: arXiv:2402.07865. `tiny` writes no role
 * names: a question, a line break, the answer, the tokenizer's eos.
 */
export const templates = {
  plain: { source: plain, tokens: [] },
  llama: vicuna('</s>'),
  phi: vicuna('<|endoftext|>'),
  gemma: vicuna('<eos>'),
  qwen2_base: vicuna('<|endoftext|>'),
  qwen2_instruct: vicuna('<|im_end|>'),
  prismatic: vicuna('</s>', {
    begin: `${apart}{%- set first = 1 if messages[0].role == 'system' and messages | length > 1 else 0 -%}{{ parts(messages[first].content, 'image') }}`,
    beforeQuestion: "{{ parts(message.content, 'image') if loop.index0 > first else '' }}",
  }),
  chatml: turns('<|im_start|>', '\\n', '<|im_end|>\\n'),
  phi3: turns('<|', '|>\\n', '<|end|>\\n'),
  llama3: turns('<|start_header_id|>', '<|end_header_id|>\\n\\n', '<|eot_id|>'),
  nanovlm: { source: nanovlm, tokens: [] },
  tiny: { source: tiny, tokens: [] },
} satisfies Record<string, NamedTemplate>;

export type TemplateName = keyof typeof templates;

/**
 * The Jinja text of a named template for a tokenizer: it begins with the bos token exactly when the tokenizer puts one before every text.
 * Throws ConfigError for an unknown name or a tokenizer without the template's special tokens.
 */
export function namedTemplate(name: string, tokenizer: Tokenizer): string {
  if (!Object.hasOwn(templates, name)) {
    throw new ConfigError(`unknown template ${JSON.stringify(name)}`, { hint: `use one of ${Object.keys(templates).join(', ')}` });
  }
  const { source, tokens }: NamedTemplate = templates[name as TemplateName];
  const lacking = (needed: readonly string[]): string[] => needed.filter((token) => !tokenizer.special.has(token));
  const missing = lacking(tokens);
  if (missing.length > 0) {
    const fitting = Object.entries<NamedTemplate>(templates).filter(([, { tokens }]) => lacking(tokens).length === 0);
    throw new ConfigError(
      `template ${JSON.stringify(name)} needs the special token ${missing.join(' and ')}, which the tokenizer does not have`,
      {
        hint: `name the template of this language model (template: in a recipe's stage, --template on the command line); its tokens are enough for ${fitting.map(([name]) => name).join(', ')}`,
      },
    );
  }
  if (source.includes('eos_token') && tokenizer.eosToken === undefined) {
    throw new ConfigError(`template "${name}" needs a tokenizer with an eos token`, { hint: 'name eos_token in tokenizer_config.json' });
  }
  return tokenizer.addsBos ? `{{ bos_token }}${source}` : source;
}
