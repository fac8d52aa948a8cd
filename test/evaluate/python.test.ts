import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  capitalize,
  float,
  length,
  levenshtein,
  round,
  rstrip,
  slice,
  split,
  strip,
  withoutPunctuation,
} from '../../src/evaluate/python.ts';

const reference = JSON.parse(readFileSync(join(import.meta.dirname, '../reference/python-text.json'), 'utf8')) as {
  capitalize: [string, string][];
  float: [string, number | string | null][];
  round: [number, number, number][];
  split: [string, string[], string][];
};

describe("Python's text functions, as CPython has them", () => {
  test('capitalize knows title case, final sigma and letters that grow', () => {
    expect(reference.capitalize.length).toBeGreaterThan(100);
    for (const [text, expected] of reference.capitalize) expect([text, capitalize(text)]).toEqual([text, expected]);
  });

  test('float reads digits of every script, underscores, infinity and nan, and nothing else', () => {
    const names: Readonly<Record<string, string>> = { NaN: 'nan', Infinity: 'inf', '-Infinity': '-inf' };
    for (const [text, expected] of reference.float) {
      const value = float(text);
      const found = value === undefined ? null : (names[String(value)] ?? value);
      expect([text, found]).toEqual([text, expected]);
    }
  });

  test('round goes to the even neighbour at exact ties only', () => {
    for (const [value, digits, expected] of reference.round)
      expect([value, digits, round(value, digits) + 0]).toEqual([value, digits, expected + 0]);
  });

  test('split and strip know its white space', () => {
    for (const [text, words, bare] of reference.split) expect([text, split(text), strip(text)]).toEqual([text, words, bare]);
  });

  test('strip takes any of some characters off, slices and lengths count code points', () => {
    expect([strip('..a.b..', '.'), rstrip('5%%', '%'), strip('xyx', 'xy')]).toEqual(['a.b', '5', '']);
    expect([slice('🙂yes', 0, 2), length('🙂é')]).toEqual(['🙂y', 2]);
    expect(withoutPunctuation('a.b-c_d~e’f')).toBe('abcde’f');
  });

  test.each([
    ['kitten', 'sitting', 3],
    ['', 'abc', 3],
    ['🙂', 'a', 1],
    ['same', 'same', 0],
  ])('between %j and %j there are %d edits', (a, b, edits) => expect([levenshtein(a, b), levenshtein(b, a)]).toEqual([edits, edits]));
});
