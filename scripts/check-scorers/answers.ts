import { Random } from '../../src/data/random.ts';

/** White space and near white space that languages disagree about. */
const spaces = [
  ' ',
  '  ',
  '\t',
  '\n',
  '\r\n',
  '\u00a0',
  '\u2003',
  '\u3000',
  '\u001c',
  '\u001f',
  '\u0085',
  '\ufeff',
  '\u200b',
  '\u2028',
  '\0',
];
const marks = [
  '.',
  ',',
  '!',
  '?',
  ';',
  ':',
  "'",
  '"',
  '(',
  ')',
  '[',
  ']',
  '{',
  '}',
  '/',
  '\\',
  '-',
  '_',
  '=',
  '+',
  '@',
  '`',
  '<',
  '>',
  '*',
  '#',
  '%',
  '$',
  '&',
  '|',
  '~',
  '^',
];
const letters = ['İ', 'ß', 'ﬁ', 'Σ', 'ς', 'é', 'e\u0301', 'Ａ', 'ａ', '中', 'の', '🙂', '👩‍👩‍👧', 'ǆ', 'ŉ', 'K', 'ſ', 'ª', '²', '½'];
const numbers = [
  '0',
  '1',
  '7',
  '10',
  '100',
  '1,000',
  '1,,000',
  '1_000',
  '3.',
  '3.5',
  '.5',
  '-2',
  '+4',
  '1e3',
  '2E-2',
  'inf',
  '-inf',
  'nan',
  '0x10',
  '٣',
  '१२',
  '５',
  '0.0',
  '5%',
  '5%%',
  '105',
  '95',
  '1 000',
  '12.345',
  '2.675',
  '1,234,567',
  '1,23',
  '1e309',
  '-0',
  '1_0_0',
  '٣\u001e',
  '½',
  '1.000,50',
];
const words = [
  'yes',
  'no',
  'Yes',
  'No',
  'NO',
  'not',
  'nope',
  'y',
  'n',
  'a',
  'an',
  'the',
  'The',
  'one',
  'two',
  'ten',
  'none',
  'zero',
  "don't",
  'dont',
  "it's",
  'its',
  "let's",
  "somebody'd",
  "y'allll",
  'answer is',
  'the answer is',
  'The answer is',
  'option',
  'I choose',
  'so',
  'therefore',
  'is',
  'could be',
  '=',
  'because',
  'cat',
  'dog',
  'A',
  'B',
  'C',
  'D',
  'E',
  'Z',
  'unanswerable',
  'Dog',
  'Apple',
  '答案是',
  '정답은',
  'ASSISTANT',
];

/** Draws from lists by a seeded stream. */
export class Draw {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  below = (count: number): number => this.#random.below(count);
  of = <Item>(items: readonly Item[]): Item => items[this.below(items.length)] as Item;
  chance = (percent: number): boolean => this.below(100) < percent;

  /** A list of so many things, from `least` to `most`. */
  some = <Item>(least: number, most: number, make: () => Item): Item[] =>
    Array.from({ length: least + this.below(most - least + 1) }, make);

  /** Something that a scorer might be given: the `right` answer, one near the `likely` ones, or one far from all. */
  answer(likely: readonly string[], right = likely[0] ?? ''): string {
    if (this.chance(20)) return this.chance(50) ? right : this.dressed(right);
    const kind = this.below(100);
    if (kind < 3) return '';
    if (kind < 5) return this.of(spaces).repeat(1 + this.below(4));
    if (kind < 25) return this.of(likely);
    if (kind < 50) return this.dressed(this.of(likely));
    if (kind < 55) return this.of(numbers);
    if (kind < 57) return `${this.of([...words, ...likely])}${this.of([' ', '.', ', '])}`.repeat(50 + this.below(200));
    return this.sentence(likely);
  }

  /** The text with marks, spaces and case around it. */
  dressed(text: string): string {
    const cased = this.of([text, text.toUpperCase(), text.toLowerCase(), text.charAt(0).toUpperCase() + text.slice(1)]);
    const around = (): string => (this.chance(50) ? this.of([...marks, ...spaces]) : '');
    return `${around()}${around()}${cased}${around()}${around()}`;
  }

  /** Words, numbers, odd letters and likely answers, one behind the other. */
  sentence(likely: readonly string[]): string {
    const piece = (): string => {
      const kind = this.below(10);
      if (kind < 4) return this.of(words);
      if (kind < 6) return this.of(numbers);
      if (kind < 7) return this.of(letters);
      return kind < 9 ? this.of(likely) : this.dressed(this.of(likely));
    };
    const gap = (): string => (this.chance(75) ? ' ' : this.of([...spaces, ...marks, '']));
    return this.some(1, 9, piece).reduce((text, one) => text + gap() + one, '');
  }
}
