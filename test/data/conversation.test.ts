import { describe, expect, test } from 'vitest';
import { parseConversation } from '../../src/data/conversation.ts';
import type { InputMessage } from '../../src/processor/message.ts';
import { row } from './files.ts';

const parse = (value: unknown) => parseConversation(value, 'data.json#7', { resolve: (image) => `images/${image}` });
/** Messages as text, images as {path}. */
const shown = (messages: readonly InputMessage[]): string[] =>
  messages.map(
    ({ role, content }) =>
      `${role}: ${typeof content === 'string' ? content : content.map((part) => (part.type === 'text' ? part.text : `{${String(part.type === 'image' ? part.image : part.video)}}`)).join('|')}`,
  );

describe('images stand where LLaVA puts them:', () => {
  test('one in front of its text, wherever its tag was', () => {
    for (const value of ['<image>\nWhat is it?', 'What is it?\n<image>', 'What <image>is it?', ' <image> What is it? ']) {
      expect(shown(parse(row('a.jpg', value, 'A cat')).messages)).toEqual(['user: {images/a.jpg}|What is it?', 'assistant: A cat']);
    }
  });
  test('several where their tags are', () => {
    const { messages } = parse(row(['a.jpg', 'b.jpg', 'c.jpg'], 'Is <image> like <image>?', 'No', 'And <image>', 'Yes'));
    expect(shown(messages)).toEqual([
      'user: Is |{images/a.jpg}| like |{images/b.jpg}|?',
      'assistant: No',
      'user: {images/c.jpg}|And',
      'assistant: Yes',
    ]);
  });
  test('several that come first lose the line breaks that the template writes', () => {
    expect(shown(parse(row(['a.jpg', 'b.jpg'], '<image>\n<image>\nCompare.', 'No')).messages)[0]).toBe(
      'user: {images/a.jpg}|{images/b.jpg}|Compare.',
    );
  });
  test('alone without any text', () => expect(shown(parse(row('a.jpg', '<image>', 'A cat')).messages)[0]).toBe('user: {images/a.jpg}'));
});

test('videos have a tag of their own, or that of images where a row has no images', () => {
  const turns = (value: string): unknown[] => [
    { from: 'human', value },
    { from: 'gpt', value: 'A cat' },
  ];
  const both = { image: 'a.jpg', video: 'b.mp4', conversations: turns('Is <video> like <image>?') };
  expect(shown(parse(both).messages)[0]).toBe('user: Is |{images/b.mp4}| like |{images/a.jpg}|?');
  const alone = { video: 'b.mp4', conversations: turns('<image>\nWhat happens?') };
  expect(shown(parse(alone).messages)[0]).toBe('user: {images/b.mp4}|What happens?');
  expect(() => parse({ video: 'b.mp4', conversations: turns('What happens?') })).toThrow('data.json#7: 0 <video> tags but 1 video');
  expect(shown(parse({ conversations: turns('What is a <video> tag?') }).messages)[0]).toBe('user: What is a <video> tag?');
});

test('a row may have no image, no id, and keys that are not needed', () => {
  const { messages, id } = parse({ ...row(undefined, 'Hi', ' Hello '), model: 'x', image: null });
  expect(shown(messages)).toEqual(['user: Hi', 'assistant:  Hello ']);
  expect(id).toBeUndefined();
  expect(parse({ ...row(undefined, 'Hi', 'Hello'), id: 12 }).id).toBe('12');
});

test('a system turn may come first', () => {
  const turns = [
    { from: 'system', value: 'Be brief.' },
    { from: 'human', value: 'Hi' },
    { from: 'gpt', value: 'Hello' },
  ];
  expect(shown(parse({ conversations: turns }).messages)).toEqual(['system: Be brief.', 'user: Hi', 'assistant: Hello']);
});

test('answers before the first question and a question after the last answer take no part', () => {
  const turns = ['gpt', 'human', 'gpt', 'human'].map((from, i) => ({ from, value: `${i}` }));
  const parsed = parse({ conversations: turns });
  expect(shown(parsed.messages)).toEqual(['user: 1', 'assistant: 2']);
  expect([parsed.skippedAnswers, parsed.droppedQuestions]).toEqual([1, 1]);
});

describe('a row that cannot be used is refused with its place, what is wrong and the fix:', () => {
  const refusal = (value: unknown): string => {
    try {
      parse(value);
    } catch (error) {
      const { message, hint } = error as Error & { hint: string };
      return `${message}\n→ ${hint}`;
    }
    return 'accepted';
  };
  const turns = (...roles: string[]) => ({ conversations: roles.map((from) => ({ from, value: 'x' })) });

  test('tags without images', () =>
    expect(refusal(row('a.jpg', '<image> and <image>', 'No'))).toMatchInlineSnapshot(`
    "data.json#7: 2 <image> tags but 1 image
    → add the missing image, or remove a tag"
  `));
  test('an image without a tag', () =>
    expect(refusal(row('a.jpg', 'What?', 'No'))).toMatchInlineSnapshot(`
    "data.json#7: 0 <image> tags but 1 image
    → add a tag where the image belongs, or remove the image"
  `));
  test('a tag in a row without images', () =>
    expect(refusal(row(undefined, 'What is <image>?', 'No'))).toMatchInlineSnapshot(`
    "data.json#7: 1 <image> tag but 0 images
    → add the missing image, or remove a tag"
  `));
  test('an image in a turn that takes no part', () =>
    expect(refusal(row('a.jpg', 'Hi', 'Hello', '<image>'))).toMatchInlineSnapshot(`
    "data.json#7: an image belongs to a turn that takes no part
    → begin with a human turn and end with an answer of gpt"
  `));
  test('two questions in a row', () =>
    expect(refusal(turns('human', 'human', 'gpt'))).toMatchInlineSnapshot(`
    "data.json#7: turn 2 is of "human" after one of "human"
    → turns of "human" and "gpt" alternate; "system" may come first; join or remove turns"
  `));
  test('two answers in a row', () =>
    expect(refusal(turns('human', 'gpt', 'gpt'))).toMatchInlineSnapshot(`
    "data.json#7: turn 3 is of "gpt" after one of "gpt"
    → turns of "human" and "gpt" alternate; "system" may come first; join or remove turns"
  `));
  test('a system turn in the middle', () =>
    expect(refusal(turns('human', 'gpt', 'system', 'human', 'gpt'))).toMatchInlineSnapshot(`
    "data.json#7: turn 3 is of "system" after one of "gpt"
    → turns of "human" and "gpt" alternate; "system" may come first; join or remove turns"
  `));
  test('no answer', () =>
    expect(refusal(turns('human'))).toMatchInlineSnapshot(`
    "data.json#7: no question is answered
    → a row needs a turn of "human" followed by one of "gpt""
  `));
  test('no question', () =>
    expect(refusal(turns('gpt'))).toMatchInlineSnapshot(`
    "data.json#7: no question is answered
    → a row needs a turn of "human" followed by one of "gpt""
  `));
  test('no turns', () =>
    expect(refusal(turns())).toMatchInlineSnapshot(`
      "data.json#7: conversations: has no turns
      → a row is {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n…"}, {"from": "gpt", "value": "…"}]}"
    `));
  test('an unknown role', () =>
    expect(refusal(turns('user', 'assistant'))).toMatchInlineSnapshot(`
      "data.json#7: conversations[0].from: expected one of "human"|"gpt"|"system", got "user"
      → a row is {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n…"}, {"from": "gpt", "value": "…"}]}"
    `));
  test('an answer that is no text', () =>
    expect(
      refusal({
        conversations: [
          { from: 'human', value: 'x' },
          { from: 'gpt', value: 3 },
        ],
      }),
    ).toMatchInlineSnapshot(`
      "data.json#7: conversations[1].value: expected string, got 3
      → a row is {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n…"}, {"from": "gpt", "value": "…"}]}"
    `));
  test('chat messages', () =>
    expect(refusal({ messages: [] })).toMatchInlineSnapshot(`
      "data.json#7: conversations: missing, expected a list
      → this looks like chat messages; LLaVA rows have "conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]"
    `));
  test('something else', () =>
    expect(refusal('x')).toMatchInlineSnapshot(`
      "data.json#7: expected a map, got "x"
      → a row is {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n…"}, {"from": "gpt", "value": "…"}]}"
    `));
});
