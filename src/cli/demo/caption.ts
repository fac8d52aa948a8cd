const article = /^(?:a|an|the|some|our|another|two)\s/i;
/** What a phrase says before its noun in "a pair of glasses". */
const measure =
  /^(?:(?:a|an|the)\s+)?(?:closed\s+|open\s+)?(?:pair|couple|bunch|cluster|head|string|cup|glass|tube|baby|model|plant)\s+of\s+(?:closed\s+|open\s+|common\s+)?/i;
/** Where what is shown ends and its circumstances begin. */
const circumstance =
  /\s(?:with|of|for|in|from|at|on|to|inside|hatched|covered|worn|used|called|playing|dancing|resembles|making|that|and|ahead|means)\s/i;
const longest = 6;

/**
 * A caption as a description of a few words, "A pink flamingo.", or undefined for what describes nothing ("Say cheese!"): remarks in
 * brackets and behind the first clause are dropped.
 */
export function cleanCaption(caption: string): string | undefined {
  const plain = caption
    .replace(/[‘’]/g, "'")
    .replace(/[“”"]|(?<!\w)'|'(?!\w)/g, '')
    .replace(/^(an? \w+), (?=\w+ \w+$|\w+ \w+[.!])/i, '$1 ')
    .replace(/\s*\([^)]*\)/g, '')
    .trim();
  const [clause = ''] = plain.split(/[.!,;:?—–]|\s(?:is|are|means|carries|carry|resembles|which)\s/);
  const words = clause.trim().split(/\s+/);
  const named = article.test(clause) ? clause.trim() : words.length <= 2 && !/[!?]/.test(plain) ? withArticle(clause.trim()) : undefined;
  if (named === undefined || words.length < 1 || named.split(' ').length > longest || /\d/.test(named)) return undefined;
  return `${named.charAt(0).toUpperCase()}${named.slice(1)}.`;
}

/** "an apple" for "apple", and as it is what has no article; undefined for more than plain words. */
export function withArticle(phrase: string): string | undefined {
  if (!/^[a-z]+( [a-z]+)*$/i.test(phrase)) return undefined;
  const plain = phrase.toLowerCase();
  if (/(?:[^s]s|ing)$/.test(plain)) return plain;
  return `${/^[aeiou]/.test(plain) ? 'an' : 'a'} ${plain}`;
}

/** A caption without its article, in lower case: pictures that share it show the same. */
export function conceptOf(caption: string): string {
  return caption
    .toLowerCase()
    .replace(article, '')
    .replace(/[^a-z' -]/g, '')
    .trim();
}

/** The noun that a caption is about, in the singular: "hat" of "A brown hat with a feather."; empty for an empty caption. */
export function nounOf(caption: string): string {
  const clause =
    caption
      .toLowerCase()
      .replace(/[“”"]/g, '')
      .split(/[.!,;:?(—\n]/)[0] ?? '';
  const [phrase = ''] = clause.trim().replace(measure, '').split(circumstance);
  const words = phrase.trim().split(/\s+/);
  // "a cherimoya fruit" is about a cherimoya
  const named = words.length > 2 && words.at(-1) === 'fruit' ? words.at(-2) : words.at(-1);
  return singular(named ?? '');
}

function singular(noun: string): string {
  if (/(?:ss|us|is)$/.test(noun) || noun.length < 4) return noun;
  if (/ies$/.test(noun)) return noun.replace(/ies$/, 'y');
  if (/(?:ch|sh|x|z)es$/.test(noun)) return noun.replace(/es$/, '');
  return noun.replace(/s$/, '');
}
