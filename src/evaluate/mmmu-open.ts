import { float, length, round, strip } from './python.ts';

const word = '[\\p{L}\\p{N}_]';
const withCommas = new RegExp(`-?(?<!${word})\\p{Nd}{1,3}(?:,\\p{Nd}{3})+(?!${word})`, 'gu');
const scientific = /-?\p{Nd}+(?:\.\p{Nd}+)?[eE][+-]?\p{Nd}+/gu;
const simple = new RegExp(`-?(?:\\p{Nd}+\\.\\p{Nd}+|\\.\\p{Nd}+|\\p{Nd}+(?!${word}))(?![eE][+-]?\\p{Nd}+)(?![,\\p{Nd}])`, 'gu');

/** All numbers in a text, as three patterns find them: with commas, in scientific notation, plain. */
const numbersIn = (text: string): string[] => [withCommas, scientific, simple].flatMap((pattern) => text.match(pattern) ?? []);

/** A number with two decimals, or the text in small letters; one letter alone becomes two texts, so that it matches as a word only. */
function alike(text: string): (string | number)[] {
  const bare = strip(text);
  const value = float(bare.replaceAll(',', ''));
  if (value !== undefined) return [round(value, 2)];
  const lower = bare.toLowerCase();
  return length(lower) === 1 ? [` ${lower}`, `${lower} `] : [lower];
}

const before = ['could be ', 'so ', 'is ', 'thus ', 'therefore ', 'final ', 'answer ', 'result '];

/** The tails of the lines that seem to say the answer: what is behind a phrase such as "is ", the shortest of a line; the whole text where there is none. */
function keyParts(answer: string): string[] {
  const text = strip(strip(answer), '.').toLowerCase();
  const lines = text.split('\n');
  const parts = lines.flatMap((line, i) => {
    let shortest = '';
    for (const phrase of i === lines.length - 1 ? [...before, '='] : before) {
      if (!line.includes(phrase)) continue;
      const tail = strip(line.split(phrase).at(-1) ?? '');
      if (shortest === '' || length(tail) < length(shortest)) shortest = tail;
    }
    return shortest === '' || /^[:,.!?;']$/.test(strip(shortest)) ? [] : [shortest];
  });
  return parts.length > 0 ? parts : [text];
}

/** All that an open answer of MMMU may be read as. Yue et al. 2023, github.com/MMMU-Benchmark/MMMU, eval_utils.py. */
export function openCandidates(answer: string): (string | number)[] {
  const parts = keyParts(answer);
  return [...parts, ...parts.flatMap(numbersIn)].flatMap(alike);
}

/** Right when a candidate holds one of the truths, or is the same number. */
export function openMatches(candidates: readonly (string | number)[], truths: readonly string[]): boolean {
  const right = truths.flatMap(alike);
  return candidates.some((said) =>
    // NaN is not itself.
    right.some((truth) => (typeof said === 'string' && typeof truth === 'string' ? said.includes(truth) : said === truth)),
  );
}
