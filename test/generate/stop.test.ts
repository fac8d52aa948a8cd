import { describe, expect, test } from 'vitest';
import { StopStrings } from '../../src/generate/stop.ts';

function run(stops: string[], pieces: string[]): { text: string; found: string | undefined; pieces: string[] } {
  const watch = new StopStrings(stops);
  const out = pieces.map((piece) => watch.push(piece));
  out.push(watch.end());
  return { text: out.join(''), found: watch.found, pieces: out };
}

describe('stop strings', () => {
  test('end the text before themselves, even when they lie across pieces', () => {
    expect(run(['</s>'], ['a b', '<', '/s', '> c'])).toEqual({ text: 'a b', found: '</s>', pieces: ['a b', '', '', '', ''] });
  });

  test('let go of what turns out not to be one', () => {
    expect(run(['</s>'], ['x <', '/', 'b> y'])).toEqual({ text: 'x </b> y', found: undefined, pieces: ['x ', '', '</b> y', ''] });
  });

  test('give back at the end what only began one', () => {
    expect(run(['USER:'], ['hello ', 'US'])).toEqual({ text: 'hello US', found: undefined, pieces: ['hello ', '', 'US'] });
  });

  test('are found at the earliest place, whichever is listed first', () => {
    expect(run(['three', 'two'], ['one two three'])).toMatchObject({ text: 'one ', found: 'two' });
  });

  test('hold back an overlap with themselves no longer than needed', () => {
    expect(run(['aab'], ['aa', 'a', 'a', 'b!']).pieces).toEqual(['', 'a', 'a', '', '']);
  });

  test('that are empty or absent stop nothing', () => {
    expect(run([''], ['a', 'b']).text).toBe('ab');
    expect(run([], ['a', 'b']).pieces).toEqual(['a', 'b', '']);
  });

  test('end any cut of any text as indexOf would, on all cuts of random texts', () => {
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * below);
    };
    const word = (length: number): string => Array.from({ length }, () => 'ab'[random(2)]).join('');
    for (let round = 0; round < 500; round++) {
      const text = word(1 + random(14));
      const stops = Array.from({ length: 1 + random(2) }, () => word(1 + random(4)));
      const pieces = [];
      for (let at = 0; at < text.length; ) {
        const end = at + 1 + random(4);
        pieces.push(text.slice(at, end));
        at = end;
      }
      // A stop string ends the text when its last letter arrives; within one piece the earliest beginning wins.
      let arrived = '';
      let expected = text;
      for (const piece of pieces) {
        arrived += piece;
        const places = stops.map((stop) => arrived.indexOf(stop)).filter((at) => at >= 0);
        if (places.length > 0) {
          expected = text.slice(0, Math.min(...places));
          break;
        }
      }
      expect(run(stops, pieces).text).toBe(expected);
    }
  });
});
