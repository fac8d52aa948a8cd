import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Message } from '../../src/processor/message.ts';
import { templates } from '../../src/processor/templates.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';

export const referenceFolder = join(import.meta.dirname, '../reference');

interface Case {
  readonly text: string;
  readonly prompt: string;
  readonly ids: number[];
}

interface TokenizerReference {
  readonly texts: readonly { readonly text: string; readonly ids: number[]; readonly decoded: string }[];
  readonly templates: Readonly<Record<string, { readonly source: string; readonly cases: Readonly<Record<string, Case>> }>>;
}

export type PythonMessage = { role: Message['role']; content: string | { type: 'image' | 'text'; text?: string }[] };

/** What Python's tokenizers and Jinja made of the same texts; see scripts/make-processor-references.py. */
export const reference: {
  readonly conversations: Readonly<Record<string, readonly PythonMessage[]>>;
  readonly marked: { readonly source: string; readonly text: string; readonly generated: readonly string[] };
  readonly words: Pick<TokenizerReference, 'texts'> & {
    readonly corpus: string;
    readonly names: Readonly<Record<string, number>>;
    readonly size: number;
  };
  readonly tokenizers: Readonly<Record<'byte-level' | 'prepend' | 'metaspace', TokenizerReference>>;
} = JSON.parse(readFileSync(join(referenceFolder, 'processor-text.json'), 'utf8'));

export type TokenizerName = keyof typeof reference.tokenizers;
export const tokenizerNames = Object.keys(reference.tokenizers) as TokenizerName[];
export const caseNames = Object.keys(reference.conversations);

const opened = new Map<TokenizerName, Tokenizer>();
for (const name of tokenizerNames) opened.set(name, await Tokenizer.open(join(referenceFolder, `processor-tokenizer-${name}`)));

/** A small tokenizer made by Python. */
export function tokenizerOf(name: TokenizerName): Tokenizer {
  const tokenizer = opened.get(name);
  if (!tokenizer) throw new Error(`no tokenizer ${name}`);
  return tokenizer;
}

/** The same with the special tokens of all named templates. */
export const chattingTokenizerOf = (name: TokenizerName): Tokenizer =>
  Object.values(templates)
    .flatMap(({ tokens }): readonly string[] => tokens)
    .reduce((tokenizer, token) => tokenizer.withSpecialToken(token), tokenizerOf(name));

/** A conversation of the reference as our messages. */
export function conversation(name: string): Message[] {
  return asMessages(reference.conversations[name] ?? []);
}

/** Python's messages as ours, with an image that is never opened. */
export function asMessages(messages: readonly PythonMessage[]): Message[] {
  return messages.map(({ role, content }) => ({
    role,
    content:
      typeof content === 'string'
        ? content
        : content.map((part) => (part.type === 'text' ? { type: 'text', text: part.text ?? '' } : { type: 'image', image: 'a.png' })),
  }));
}
