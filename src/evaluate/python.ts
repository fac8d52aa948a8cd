/**
 * Python's text functions, where the official scorers rely on how they differ from JavaScript's. Checked against CPython by
 * scripts/make-python-text-references.py; "character" is a code point throughout.
 */

/** What Python calls white space (str.isspace): unlike JavaScript's \s it has the separators U+001C to U+001F and U+0085, and not U+FEFF. */
export const whiteSpace = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const atStart = new RegExp(`^[${whiteSpace}]+`);
const atEnd = new RegExp(`[${whiteSpace}]+$`);
const between = new RegExp(`[${whiteSpace}]+`);

/** str.strip(): white space, or any of the characters, off both ends. */
export const strip = (text: string, characters?: string): string => lstrip(rstrip(text, characters), characters);

/** str.rstrip(). */
export function rstrip(text: string, characters?: string): string {
  if (characters === undefined) return text.replace(atEnd, '');
  const all = [...text];
  while (all.length > 0 && characters.includes(all.at(-1) ?? '')) all.pop();
  return all.join('');
}

/** str.lstrip(). */
function lstrip(text: string, characters?: string): string {
  if (characters === undefined) return text.replace(atStart, '');
  const all = [...text];
  const first = all.findIndex((character) => !characters.includes(character));
  return first === -1 ? '' : all.slice(first).join('');
}

/** str.split() without a separator: no empty words. */
export function split(text: string): string[] {
  const bare = strip(text);
  return bare === '' ? [] : bare.split(between);
}

/** text[start:end]. */
export const slice = (text: string, start: number, end?: number): string => [...text].slice(start, end).join('');

/** len(text). */
export function length(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/**
 * Characters whose title case is not their upper case: the digraphs of Latin Extended-B, Greek with iota below, and Georgian, which has none.
 * Unicode, DerivedCoreProperties and SpecialCasing.
 */
function titleCase(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code >= 0x01c4 && code <= 0x01cc) return String.fromCodePoint(0x01c5 + 3 * Math.floor((code - 0x01c4) / 3));
  if (code >= 0x01f1 && code <= 0x01f3) return String.fromCodePoint(0x01f2);
  if (code >= 0x10d0 && code <= 0x10ff) return character;
  if (code === 0x0149) return character.toUpperCase();
  if (code >= 0x1f80 && code <= 0x1faf) return String.fromCodePoint(code | 8);
  if (code === 0x1fb3 || code === 0x1fc3 || code === 0x1ff3) return String.fromCodePoint(code + 9);
  if (code === 0x1fbc || code === 0x1fcc || code === 0x1ffc) return character;
  const upper = [...character.toUpperCase()];
  // Of several letters (ß, ligatures) only the first is a capital; marks of Greek stay, the iota below stays below.
  const rest = upper.slice(1).map((letter) => (letter === 'Ι' && code >= 0x1f00 && code <= 0x1fff ? 'ͅ' : letter.toLowerCase()));
  return [...upper.slice(0, 1), ...rest].join('');
}

/** str.capitalize(): the first character in title case, all others in lower case. */
export function capitalize(text: string): string {
  const [first] = text;
  if (first === undefined) return '';
  // Lowered as a whole, because a final sigma depends on what is before it.
  return titleCase(first) + text.toLowerCase().slice(first.toLowerCase().length);
}

/** string.punctuation, which is ASCII's. */
const punctuation = /[!-/:-@[-`{-~]/g;

/** The text without ASCII punctuation. */
export const withoutPunctuation = (text: string): string => text.replace(punctuation, '');

const decimalDigit = /\p{Nd}/gu;

/** The value of a decimal digit of any script. Digits of a script are ten code points in a row. */
function digitValue(digit: string): number {
  const code = digit.codePointAt(0) ?? 0;
  if (code < 0x80) return code - 0x30;
  // Five rows of mathematical digits follow each other without a gap.
  if (code >= 0x1d7ce && code <= 0x1d7ff) return (code - 0x1d7ce) % 10;
  let zero = code;
  while (code - zero < 9 && /\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero -= 1;
  return code - zero;
}

/** float() takes white space off both ends, but none of the separators U+001C to U+001F. */
const numberSpace = `[${whiteSpace.replace('\\x1c-', '')}]+`;
const aroundNumber = new RegExp(`^${numberSpace}|${numberSpace}$`, 'g');

const number = /^[+-]?(?:(?:\d+(?:_\d+)*)(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+(?:_\d+)*)(?:e[+-]?\d+(?:_\d+)*)?$/i;

/** float(text), or undefined where Python raises ValueError: `1_000`, ` 5 `, `inf` and digits of every script are numbers, `` and `0x10` are not. */
export function float(text: string): number | undefined {
  const bare = text.replace(aroundNumber, '').replace(decimalDigit, (digit) => String(digitValue(digit)));
  if (number.test(bare)) return Number(bare.replaceAll('_', ''));
  const word = /^([+-]?)(inf|infinity|nan)$/i.exec(bare);
  if (!word) return undefined;
  if (word[2]?.toLowerCase() === 'nan') return Number.NaN;
  return word[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

/** round(value, digits): to the nearest decimal, a tie (of the binary number itself) to the even one. */
export function round(value: number, digits = 0): number {
  if (!Number.isFinite(value) || Math.abs(value) >= 1e21) return value;
  const rounded = value.toFixed(digits);
  // toFixed takes ties away from zero. Exact ties end in a 5 within the 60 digits that a double below 1e21 can need here.
  const exact = value.toFixed(Math.min(100, digits + 60));
  const tail = digits === 0 ? exact.slice(exact.indexOf('.') + 1) : exact.slice(exact.indexOf('.') + 1 + digits);
  if (!/^50*$/.test(tail)) return Number(rounded);
  const last = Number(rounded.at(-1));
  if (last % 2 === 0) return Number(rounded);
  // The even neighbour is the one towards zero, which cutting off gives.
  return Number(exact.slice(0, exact.length - tail.length));
}

/** Edits between two texts. */
export function levenshtein(first: string, second: string): number {
  const [long, short] = length(first) >= length(second) ? [[...first], [...second]] : [[...second], [...first]];
  let row = Uint32Array.from({ length: short.length + 1 }, (_, j) => j);
  for (const [i, letter] of long.entries()) {
    const next = new Uint32Array(short.length + 1);
    next[0] = i + 1;
    for (let j = 0; j < short.length; j++) {
      const replaced = (row[j] ?? 0) + (letter === short[j] ? 0 : 1);
      next[j + 1] = Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1);
    }
    row = next;
  }
  return row[short.length] ?? 0;
}
