import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { reference, referenceFolder } from './reference.ts';

const { corpus, texts, names, size } = reference.words;
const tokenizer = wordLevelTokenizer(splitWords(corpus));

test('is the tokenizer that Python opened (else run scripts/make-processor-references.py)', async () => {
  expect(JSON.parse(await readFile(join(referenceFolder, 'processor-tokenizer-words/tokenizer.json'), 'utf8'))).toEqual(
    tokenizer.files.json,
  );
});

test.each(texts)('gives the ids and the text of Python for $text', ({ text, ids, decoded }) => {
  expect(tokenizer.encode(text)).toEqual(ids);
  expect(tokenizer.decode(ids)).toBe(decoded);
});

test('names the special tokens as Python does', () => {
  const { padToken: pad = '', unkToken: unk = '', bosToken: bos = '', eosToken: eos = '' } = tokenizer;
  expect({ pad: tokenizer.idOf(pad), unk: tokenizer.idOf(unk), bos: tokenizer.idOf(bos), eos: tokenizer.idOf(eos) }).toEqual(names);
  expect(tokenizer.size).toBe(size);
});

test('knows every word of the text that it was made from', () => {
  expect(tokenizer.encode(corpus)).not.toContain(names['unk']);
  expect(tokenizer.encode('a green circle').map((id) => tokenizer.tokenOf(id))).toEqual(['a', '<unk>', '<unk>']);
});

test('folds case when asked to', () => {
  const folded = wordLevelTokenizer(['What', 'Blue'], { lowercase: true });
  expect(folded.encode('WHAT blue')).toEqual(folded.encode('what BLUE'));
  expect(folded.encode('WHAT')).not.toContain(folded.idOf('<unk>'));
});

test('refuses words that no text is ever cut into', () => {
  expect(() => wordLevelTokenizer(["don't"])).toThrowErrorMatchingInlineSnapshot(
    `[DataError: "don't" cannot be one word of a word-level tokenizer]`,
  );
  expect(() => wordLevelTokenizer(['a b'])).toThrowErrorMatchingInlineSnapshot(
    `[DataError: "a b" cannot be one word of a word-level tokenizer]`,
  );
  expect(() => wordLevelTokenizer([''])).toThrowErrorMatchingInlineSnapshot(`[DataError: "" cannot be one word of a word-level tokenizer]`);
});
