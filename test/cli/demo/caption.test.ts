import { expect, test } from 'vitest';
import { cleanCaption, conceptOf, nounOf } from '../../../src/cli/demo/caption.ts';

test.each([
  ['A pink flamingo.', 'A pink flamingo.'],
  ['A peacock (a male peafowl).', 'A peacock.'],
  ['A very poisonous lionfish!', 'A very poisonous lionfish.'],
  ['A knight’s helmet.', "A knight's helmet."],
  ["A wizard's hat.", "A wizard's hat."],
  ['A “Granny Smith” apple.', 'A Granny Smith apple.'],
  ['A ripe, red tomato!', 'A ripe red tomato.'],
  ['A candy cane is a traditional Christmas treat in the United States.', 'A candy cane.'],
  ['A laptop computer.  Tap. Tap. Tap.', 'A laptop computer.'],
  ['Cathedral.', 'A cathedral.'],
  ['Anthurium', 'An anthurium.'],
  ['Two wild boars.', 'Two wild boars.'],
])('%s describes a picture as %s', (caption, cleaned) => expect(cleanCaption(caption)).toBe(cleaned));

test.each([
  'Say cheese!',
  'Remember to flush the toilet and wash your hands with soap!',
  'Tux and spider - two friends.',
  'Boom!!!',
  'With a fast APC like this Stryker, you can surprise the enemy.',
  'An F-22 Raptor.',
  'The Voyager-2 deep-space probe.',
  '',
])('%s describes nothing', (caption) => expect(cleanCaption(caption)).toBeUndefined());

test.each([
  ['A pink flamingo.', 'flamingo'],
  ['a brown hat with a feather', 'hat'],
  ['Some cherries.', 'cherry'],
  ['A pair of glasses.', 'glasse'],
  ['A pair of sunglasses.', 'sunglasse'],
  ['A bunch of grapes.', 'grape'],
  ['A cherimoya fruit.', 'cherimoya'],
  ['An octopus.', 'octopus'],
  ['Two boxes.', 'box'],
  ['A spider playing soccer.', 'spider'],
  ['A dog\nA cat', 'dog'],
  ['', ''],
])('%s is about a %s', (caption, noun) => expect(nounOf(caption)).toBe(noun));

test('captions that differ in their article alone are of one concept', () => {
  expect(['A red apple.', 'the red apple', 'Some red apple!'].map(conceptOf)).toEqual(['red apple', 'red apple', 'red apple']);
});
