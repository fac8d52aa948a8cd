/** Marks that take no part in a comparison. Brackets take part, by the names that the Penn Treebank has for them, because `pycocoevalcap` writes these small. */
const punctuation = new Set([...'`\'.?!,:;-"…—–', '--', '...', '``', "''"]);

const brackets = new Map(['(-lrb-', ')-rrb-', '[-lsb-', ']-rsb-', '{-lcb-', '}-rcb-'].map((pair) => [pair.slice(0, 1), pair.slice(1)]));

/** Shortened words that keep their full stop. */
const shortened = (
  'mr mrs ms messrs dr drs prof jr sr esq st ave blvd rd mt ft gov pres sen rep hon rev lt sgt capt col gen maj adm cmdr cpl pvt ' +
  'inc co corp ltd bros dept univ est etc vs v tel ext jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri'
).replaceAll(' ', '|');

const letter = '[\\p{L}\\p{M}\\p{N}]';
/** Letters, with marks between them that keep a word together, as in `t-shirt`, `and/or`, `o'clock`, `at&t`. */
const word = `${letter}+(?:(?:[-&/_]|(?<=\\p{L})'(?!n')(?=\\p{L}))${letter}+)*?`;
const clitic = "'(?:s|m|d|re|ve|ll)\\b";

/** What is one word, tried in this order. */
const token = new RegExp(
  [
    '</?[a-z][^<>]*>',
    '(?:https?://|www\\.)[^\\s"<>|(){}]*[^\\s"<>|.!?(){},-]',
    '\\w[\\w.+-]{0,63}@[\\w-]+(?:\\.[\\w-]+)+|[@#][a-z_]\\w*',
    // The parts of words that are written as one.
    "n't\\b",
    clitic,
    "'t(?=(?:is|was)\\b)|y'(?=all\\b)",
    'gon(?=na\\b)|wan(?=na\\b)|got(?=ta\\b)|gim(?=me\\b)|lem(?=me\\b)|can(?=not\\b)',
    "'n'|'em\\b|(?<!\\d)'\\d\\ds?\\b",
    // Numbers and times.
    `[-+]?\\d+(?:[.,]\\d+)+(?:-${letter}+)*|[-+]?\\d+(?:[.,:]\\d+)+`,
    `[-+]\\d+(?!${letter})`,
    // Full stops within words, and behind letters and shortened words.
    `(?:[a-z]\\.){2,}(?:-${letter}+)*(?!\\p{L})|ph\\.d\\.|\\p{L}+(?:\\.\\p{L}+)+`,
    `(?:${shortened})\\.|(?:no|fig)\\.(?= ?\\d)`,
    '[a-z]\\.(?!\\p{L})',
    // A word up to what is cut off its end, else a whole one.
    `${word}(?=n't\\b)`,
    `${word}(?=${clitic})`,
    `${word}(?![-&/_]?${letter}|(?<=\\p{L})'(?!n')\\p{L})`,
    "\\.\\.\\.|--|``|''|[?!]+|\\*+|_+|\\S",
  ].join('|'),
  'giu',
);

/**
 * A caption as the words that the metrics of COCO captions compare: in small letters, clitics apart ("don't" is `do n't`, "it's" is `it 's`), without
 * punctuation. It does what the Penn Treebank tokenizer of `pycocoevalcap` does to English sentences, with their numbers, times, abbreviations and addresses; of
 * its rarest rules (entities, smileys, a `&` between small letters) it has none.
 */
export function captionTokens(caption: string): string[] {
  const plain = caption
    .toLowerCase()
    .replace(/[‘’]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/[€£¢½¼¾]/g, (sign) => ({ '€': '$', '£': '#', '¢': ' cents ', '½': ' 1/2 ', '¼': ' 1/4 ', '¾': ' 3/4 ' })[sign] ?? sign)
    // What the tokenizer does not know, emoji among it, parts words; a soft hyphen does not.
    .replace(/\u00ad/g, '')
    .replace(/[\p{Cf}\u{10000}-\u{10ffff}]/gu, ' ');
  return [...plain.matchAll(token)].map(([text]) => brackets.get(text) ?? text).filter((text) => !punctuation.has(text));
}
