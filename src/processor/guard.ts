import { DataError } from '../errors.ts';
import { contentParts, type Message } from './message.ts';

// Unicode's noncharacters: they mean nothing in any text, so one of them is free
const noncharacters = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i));

/**
 * Keeps special tokens that somebody typed apart from those that a template writes: `hide` puts a character that occurs nowhere into each typed one,
 * `show` takes it out again.
 */
export interface Guard {
  hide(messages: readonly Message[]): readonly Message[];
  show(text: string): string;
}

/** The guard of one conversation; most have no typed special token and are passed through. Throws DataError when all 32 noncharacters occur in it. */
export function guardFor(messages: readonly Message[], special: RegExp): Guard {
  const texts = messages.flatMap((message) => contentParts(message).flatMap((part) => (part.type === 'text' ? [part.text] : [])));
  if (!texts.some((text) => text.search(special) >= 0)) return { hide: (given) => given, show: (text) => text };
  const mark = noncharacters.find((character) => !texts.some((text) => text.includes(character)));
  if (mark === undefined) {
    throw new DataError('the text uses every noncharacter from U+FDD0 to U+FDEF', { hint: 'remove them, no text needs them' });
  }
  const hideText = (text: string): string => text.replace(special, (token) => `${token[0]}${mark}${token.slice(1)}`);
  return {
    hide: (given) =>
      given.map((message) => ({
        role: message.role,
        content: contentParts(message).map((part) => (part.type === 'text' ? { type: 'text', text: hideText(part.text) } : part)),
      })),
    show: (text) => text.replaceAll(mark, ''),
  };
}
