import { split, strip } from './python.ts';

/** Words with apostrophes that are put back; a spelling with exactly one of its apostrophes missing is such a word. */
const words =
  "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd " +
  "it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't " +
  "shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd " +
  "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd " +
  "where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've " +
  "you'll you're you've";

function contractions(): Map<string, string> {
  const table = new Map<string, string>();
  for (const word of words.split(' ')) {
    for (const [i, letter] of [...word].entries()) if (letter === "'") table.set(word.slice(0, i) + word.slice(i + 1), word);
  }
  // The published table has this one the wrong way round.
  return table.set("somebody'd", 'somebodyd');
}

const apostrophes = contractions();
const numbers = new Map(
  ['none', 'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'].map((word, i) => [
    word,
    String(Math.max(0, i - 1)),
  ]),
);
const articles = new Set(['a', 'an', 'the']);
const marks = ';/[]"{}()=+\\_-><@`,?!';
const commaInNumber = /\p{Nd},+\p{Nd}/u;
const oneCommaInNumber = /\d,\d/;
const stopNotBeforeDigit = /\.(?!\p{Nd})/gu;
const stopAwayFromDigits = /(?<!\p{Nd})\.(?!\p{Nd})/gu;

/**
 * Takes marks out of a text: one with a space beside it vanishes, another becomes a space; all vanish where there is a comma within a number. The published
 * pattern for full stops means "not before a digit" and is applied to at most 32 of them, because a flag is passed as the count.
 */
function withoutMarks(text: string, { comma = commaInNumber, stop = stopNotBeforeDigit } = {}): string {
  let out = text;
  const joined = comma.test(text);
  for (const mark of marks) {
    const vanishes = joined || text.includes(`${mark} `) || text.includes(` ${mark}`);
    out = out.replaceAll(mark, vanishes ? '' : ' ');
  }
  let stops = 0;
  return out.replace(stop, (mark) => (stops++ < 32 ? '' : mark));
}

/** Small letters, digits for number words, apostrophes put back, no articles, single spaces. */
function withoutArticles(text: string): string {
  const kept = split(text.toLowerCase()).map((word) => numbers.get(word) ?? word);
  return kept
    .filter((word) => !articles.has(word))
    .map((word) => apostrophes.get(word) ?? word)
    .join(' ');
}

/**
 * An answer as EvalAI's processor leaves it, which VizWiz, TextVQA and OK-VQA compare: the answers of VQA (Goyal et al. 2017) with commas, question marks
 * and `'s` taken care of before. https://github.com/facebookresearch/mmf, pythia/tasks/processors.py at c46b3b3.
 */
export function evalAiAnswer(answer: string): string {
  const words = strip(answer.toLowerCase().replaceAll(',', '').replaceAll('?', '').replaceAll("'s", " 's"));
  return withoutArticles(withoutMarks(strip(words.replaceAll('\n', ' ').replaceAll('\t', ' '))));
}

const withoutBreaks = (text: string): string => strip(text.replaceAll('\n', ' ').replaceAll('\t', ' '));

/** An answer as VQAv2's evaluation in lmms-eval compares it. */
export const vqaAnswer = (answer: string): string => withoutArticles(withoutMarks(withoutBreaks(answer)));

/**
 * The accuracy of VQA: of each nine of ten people's answers three must agree for a whole point, averaged over the ten choices of nine. With k of ten that
 * agree this is 0, 0.3, 0.6, 0.9 and 1 from four on. Antol et al. 2015, arXiv:1505.00468.
 */
export function agreement(answer: string, people: readonly string[]): number {
  const same = people.filter((one) => one === answer).length;
  if (people.length === 0) return 0;
  const [agreeing, others] = [Math.min(1, (same - 1) / 3), Math.min(1, same / 3)];
  return (same * Math.max(0, agreeing) + (people.length - same) * others) / people.length;
}

/**
 * VQA's own evaluation (github.com/GT-Vision-Lab/VQA): answers are made alike only where the people do not all say the same; where they do, the answer has
 * to be the very same text.
 */
export function officialVqa(answer: string, people: readonly string[]): { readonly parsed: string; readonly score: number } {
  const [said, truths] = [withoutBreaks(answer), people.map(withoutBreaks)];
  if (new Set(truths).size <= 1) return { parsed: said, score: agreement(said, truths) };
  const alike = (text: string): string => withoutArticles(withoutMarks(text, { comma: oneCommaInNumber }));
  const parsed = alike(said);
  return { parsed, score: agreement(parsed, truths.map(alike)) };
}

/** A yes or a no among the words of an answer, not both; VLMEvalKit's rule, with its own reading of full stops. */
export function yesOrNo(answer: string): 'yes' | 'no' | undefined {
  const words = split(withoutMarks(answer.toLowerCase(), { comma: /\p{Nd},\p{Nd}/u, stop: stopAwayFromDigits }));
  const [yes, no] = [words.includes('yes'), words.includes('no')];
  return yes === no ? undefined : yes ? 'yes' : 'no';
}
