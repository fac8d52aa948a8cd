import { expect, test } from 'vitest';
import { TextStream } from '../../src/processor/text-stream.ts';
import { reference, tokenizerNames, tokenizerOf } from './reference.ts';

const texts = reference.tokenizers.prepend.texts.map(({ text }) => text);

test.each(tokenizerNames)('pieces of the %s tokenizer join to the whole text and never cut a character', (name) => {
  const tokenizer = tokenizerOf(name);
  for (const text of [...texts, 'é'.repeat(20), 'a👩‍👩‍👧b', `${'word '.repeat(30)}end`]) {
    const ids = tokenizer.encode(text);
    const stream = new TextStream(tokenizer);
    const pieces = [...ids.map((id) => stream.push(id)), stream.end()];
    expect(pieces.join('')).toBe(tokenizer.decode(ids));
    if (!text.includes('\uFFFD')) expect(pieces.filter((piece) => piece.includes('\uFFFD'))).toEqual([]);
  }
});

test('a character that spans ids is held back until it is whole', () => {
  const tokenizer = tokenizerOf('byte-level');
  const stream = new TextStream(tokenizer);
  const pieces = tokenizer.encode('a🎉b').map((id) => stream.push(id));
  expect(pieces).toEqual(['a', '', '', '', '🎉', 'b']);
});

test('bytes that never became a character come at the end', () => {
  const tokenizer = tokenizerOf('byte-level');
  const stream = new TextStream(tokenizer);
  const [first, second] = tokenizer.encode('🎉');
  expect([stream.push(first ?? 0), stream.push(second ?? 0), stream.end()]).toEqual(['', '', '\uFFFD']);
  expect(stream.push(tokenizer.encode('x')[0] ?? 0)).toBe('x');
});

test('special tokens give no text', () => {
  const tokenizer = tokenizerOf('prepend');
  const stream = new TextStream(tokenizer);
  const ids = [...tokenizer.encode('Hello'), tokenizer.requireId('</s>')];
  expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe('Hello');
});
