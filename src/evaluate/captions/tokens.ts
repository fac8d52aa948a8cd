/** Marks that take no part in a comparison. */
const punctuation = new Set([
  '.',
  '?',
  '!',
  ',',
  ':',
  '-',
  '--',
  '...',
  ';',
  '`',
  "'",
  '``',
  "''",
  '(',
  ')',
  '[',
  ']',
  '{',
  '}',
  '"',
  '…',
  '—',
  '–',
]);

const token =
  /n't\b|'(?:s|m|d|re|ve|ll)\b|\d+(?:[.,]\d+)+|(?:[a-z]\.){2,}|\.\.\.|--|``|''|[\p{L}\p{N}]+(?:[-&/][\p{L}\p{N}]+)*?(?=n't\b)|[\p{L}\p{N}]+(?:[-'&/][\p{L}\p{N}]+)*?(?='(?:s|m|d|re|ve|ll)\b)|[\p{L}\p{N}]+(?:[-'&/][\p{L}\p{N}]+)*|\S/giu;

/**
 * A caption as the words that the metrics of COCO captions compare: in small letters, clitics apart ("don't" is `do n't`, "it's" is `it 's`), without
 * punctuation. It does what the Penn Treebank tokenizer of `pycocoevalcap` does to plain English sentences; of its rarer rules (currencies,
 * "gonna", addresses) it has none.
 */
export function captionTokens(caption: string): string[] {
  const plain = caption
    .toLowerCase()
    .replace(/[‘’]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/\bcannot\b/g, 'can not');
  return [...plain.matchAll(token)].map(([text]) => text).filter((text) => !punctuation.has(text));
}
