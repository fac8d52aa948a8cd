import { length, split, strip } from './python.ts';

/** Options by their letters, in the order of the letters. */
export type Options = Readonly<Record<string, string>>;

/** What refuses to answer. VLMEvalKit, vlmeval/utils/matching_util.py. */
const refusals = [
  "Sorry, I can't help with images of people yet.",
  "I can't process this file.",
  "I'm sorry, but without the image provided",
  'Cannot determine the answer',
];

const noAnswer = 'Failed to obtain answer via API';

/**
 * The letter that VLMEvalKit finds in an answer: the only option letter among its words, near the end; else the only option whose text is in a short
 * answer. `Z` for a refusal, undefined for none.
 */
export function inferredChoice(answer: string, options: Options): string | undefined {
  return inferredLetter(answer, Object.keys(options)) ?? inferredText(answer, options);
}

function inferredLetter(answer: string, letters: readonly string[]): string | undefined {
  if (answer.includes(noAnswer)) return undefined;
  if (refusals.some((refusal) => answer.includes(refusal))) return 'Z';
  const words = split(answer.replace(/[.()[\],:;!*#{}]/g, ' '));
  const present = letters.filter((letter) => words.includes(letter));
  const [only] = present;
  if (present.length === 1 && only !== undefined && words.indexOf(only) > words.length - 5) return only;
  if (present.length === 0 && words.includes('Z')) return 'Z';
  return undefined;
}

function inferredText(answer: string, options: Options): string | undefined {
  const total = Object.values(options).reduce((sum, text) => sum + length(text), 0);
  const said = answer.toLowerCase();
  if (length(said) > 2 * total) return undefined;
  return onlyText(said, options);
}

/** The only option whose text is in the answer. */
function onlyText(said: string, options: Options): string | undefined {
  const found = Object.entries(options).filter(([, text]) => said.includes(text.toLowerCase()));
  return found.length === 1 ? found[0]?.[0] : undefined;
}

/** What may stand around a letter, in the order in which MMBench's evaluator of lmms-eval tries it. */
const around = [
  ['', '.'],
  ['', ','],
  ['', ':'],
  ['', ')'],
  ['', ').'],
  ['(', ')'],
  ['(', ').'],
  [':', ''],
  [':', ','],
  [':', '.'],
  [':', ')'],
  [':', ').'],
] as const;

/** The letter that lmms-eval's evaluator of MMBench finds in an answer before it would ask a judge. */
export function mmbenchChoice(answer: string, options: Options): string | undefined {
  if (!answer.includes(noAnswer)) {
    const words = split(answer);
    const only = (before: string, behind: string): string | undefined => {
      const found = [...'ABCDE'].filter((letter) => words.includes(`${before}${letter}${behind}`));
      return found.length === 1 ? found[0] : undefined;
    };
    const bare = only('', '');
    // An A among several words may be an article, whichever letter was found.
    if (bare !== undefined && !(words.includes('A') && words.length > 3)) return bare;
    for (const [before, behind] of around) {
      const found = only(before, behind);
      if (found !== undefined) return found;
    }
  }
  return onlyText(answer.toLowerCase(), options);
}

/** Phrases before an answer, in the languages that lmms-eval knows. */
const phrases = [
  ...['', 'the '].flatMap((the) =>
    ['answer', 'correct answer', 'best answer', 'correct option', 'best option', 'choice', 'correct choice'].map(
      (what) => `${the}${what} is`,
    ),
  ),
  ...['choose', 'select', 'pick'].map((verb) => `i ${verb}`),
  'my answer is',
  'my choice is',
  '옵션',
  '정답은',
  '답은',
  '답:',
  '答案是',
  '答案为',
  '选',
  '答えは',
];

const isLetter = (character: string | undefined): boolean => character !== undefined && /^\p{L}$/u.test(character);

/**
 * The letter that lmms-eval's shared extractor finds: of all letters in the answer the one in the form that says most (alone at the start, alone at the end, behind
 * a phrase, in brackets, before a stop …), of these the last. Undefined for none.
 */
export function extractedChoice(answer: string, letters: readonly string[]): string | undefined {
  if (strip(answer) === '') return undefined;
  let bare = strip(answer);
  for (const mark of ',.!?;:\'"') bare = strip(bare, mark);
  const text = ` ${bare} `;
  const found: { letter: string; at: number; rank: number }[] = [];
  const forms: readonly (readonly [rank: number, form: (letter: string) => string])[] = [
    [6, (letter) => `(${letter})`],
    [5, (letter) => `${letter}.`],
    [4, (letter) => `${letter}:`],
    [3, (letter) => `${letter})`],
    [2, (letter) => `${letter} `],
  ];
  for (const [rank, form] of forms) {
    for (const letter of letters) {
      const at = text.lastIndexOf(form(letter));
      if (at >= 0) found.push({ letter, at, rank });
    }
  }
  const lower = text.toLowerCase();
  for (const phrase of phrases) {
    const start = lower.indexOf(phrase);
    if (start < 0) continue;
    for (const letter of letters) {
      const at = text.indexOf(letter, start + phrase.length);
      if (at >= 0) found.push({ letter, at, rank: 7 });
    }
  }
  const characters = [...strip(text)];
  for (const letter of letters) {
    if (characters[0] === letter && !isLetter(characters[1])) found.push({ letter, at: 0, rank: 10 });
    if (characters.at(-1) === letter && !isLetter(characters.at(-2))) found.push({ letter, at: text.length - 1, rank: 9 });
  }
  if (found.length === 0) {
    for (const letter of letters) {
      const at = text.lastIndexOf(letter);
      if (at >= 0) found.push({ letter, at, rank: 0 });
    }
  }
  return found.reduce<(typeof found)[number] | undefined>((best, one) => {
    const better = best === undefined || one.rank > best.rank || (one.rank === best.rank && one.at > best.at);
    return better ? one : best;
  }, undefined)?.letter;
}

const marksAtEnds = ",.!?;:'";

/**
 * The letter that MMMU's own reading finds: in brackets, else as a word, else (in answers of more than five words) by the option's text; of several the last.
 * Undefined where MMMU would draw one. `word` says how a letter as a word is looked for: MMMU wants spaces around it, lmms-eval one behind it, then a stop.
 */
export function mmmuChoice(answer: string, options: Options, word: 'spaces' | 'lmms-eval'): string | undefined {
  let bare = answer;
  for (const mark of marksAtEnds) bare = strip(bare, mark);
  const text = ` ${bare} `;
  const letters = Object.keys(options);
  const last = (candidates: readonly string[], place: (letter: string) => number): string | undefined =>
    candidates.length < 2 ? candidates[0] : candidates.reduce((best, one) => (place(one) > place(best) ? one : best));
  const inBrackets = letters.filter((letter) => text.includes(`(${letter})`));
  if (inBrackets.length > 0) return last(inBrackets, (letter) => text.lastIndexOf(`(${letter})`));
  const asWord = (form: (letter: string) => string): string[] => letters.filter((letter) => text.includes(form(letter)));
  const spaced = word === 'spaces' ? asWord((letter) => ` ${letter} `) : asWord((letter) => `${letter} `);
  const words = spaced.length > 0 || word === 'spaces' ? spaced : asWord((letter) => `${letter}.`);
  if (words.length > 0) return last(words, (letter) => text.lastIndexOf(` ${letter} `));
  if (split(text).length <= 5) return undefined;
  const lower = text.toLowerCase();
  const byText = letters.filter((letter) => lower.includes((options[letter] ?? '').toLowerCase()));
  return last(byText, (letter) => lower.lastIndexOf((options[letter] ?? '').toLowerCase()));
}
