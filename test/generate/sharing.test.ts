import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import { ChatModel, type GenerateOptions } from '../../src/generate/generate.ts';
import { onOneThread, picture, tinyModel } from './tiny-model.ts';

onOneThread();

const { model, processor } = tinyModel({ contextTokens: 512 });
const chat = new ChatModel(model, processor);
afterAll(() => chat.free());
/** The suite asks a part of the 1,000 prompts that `SHARING_PROMPTS=1000 npx vitest run test/generate/sharing.test.ts` asks. */
const prompts = Number(process.env['SHARING_PROMPTS'] ?? 120);
const words = 'what is the colour of this shape red blue green circle square yes no a b c d e f g'.split(' ');
const requests: GenerateOptions[] = [];
/** Token by token, each prompt by itself and from its beginning. */
let alone: readonly (readonly number[])[] = [];

beforeAll(async () => {
  const random = new Random(11);
  const images = await Promise.all(Array.from({ length: 9 }, (_, i) => picture(i, 18 + i)));
  const some = (length: number): string => Array.from({ length }, () => words[random.below(words.length)]).join(' ');
  // Long beginnings that prompts have in common, as questions about one image or examples before a question.
  const beginnings = Array.from({ length: 6 }, (_, i) => some(20 + 15 * i));
  for (let i = 0; i < prompts; i++) {
    const shown = random.below(4) === 0 ? random.below(4) : 1;
    const like = random.below(3) > 0 ? random.below(beginnings.length) : undefined;
    const begin = like === undefined ? '' : `${beginnings[like]} `;
    const parts = Array.from(
      { length: shown },
      () => ({ type: 'image', image: images[like ?? random.below(images.length)] ?? new Uint8Array() }) as const,
    );
    const text = { type: 'text', text: `${begin}${some(1 + random.below(40))}` } as const;
    const content = random.below(2) ? [...parts, text] : [text, ...parts, { type: 'text', text: some(3) } as const];
    requests.push({ messages: [{ role: 'user', content }], maxNewTokens: 1 + random.below(24) });
  }
  alone = await answers({ slots: 1, remembered: 0 });
}, 300_000);

async function answers(options: { slots: number; remembered: number; promptTokens?: number }): Promise<readonly (readonly number[])[]> {
  const found: (readonly number[])[] = [];
  for await (const outcome of chat.answers(requests, options)) {
    if ('error' in outcome) throw outcome.error;
    found[outcome.index] = outcome.answer.ids;
  }
  return found;
}

describe('answers in float32 to prompts of mixed lengths and images, token by token', () => {
  test.each([
    ['in batches', { slots: 16, remembered: 0 }],
    ['in batches that share what prompts begin with', { slots: 7, remembered: 2 }],
    ['one at a time, with what the last prompts began with', { slots: 1, remembered: 3 }],
    ['in large batches whose prompts are read piecemeal', { slots: 64, remembered: 8, promptTokens: 100 }],
  ])(
    '%s are those of each prompt by itself',
    async (_, options) => {
      expect(await answers(options)).toEqual(alone);
    },
    300_000,
  );

  test('are of different lengths, and some prompts shared their beginning', async () => {
    expect(new Set(alone.map(({ length }) => length)).size).toBeGreaterThan(5);
    let shared = 0;
    for await (const outcome of chat.answers(requests, { slots: 7, remembered: 2 })) {
      if ('answer' in outcome && outcome.answer.usage.sharedTokens > 0) shared += 1;
    }
    expect(shared).toBeGreaterThan(prompts / 10);
  });
});

test.each([1, 2, 5])(
  'every second prompt of a pair shares its beginning with the first, when answers have %i tokens',
  async (maxNewTokens) => {
    const pairs = 24;
    const begin = (i: number): string =>
      Array.from({ length: 40 }, (_, at) => words[(i * 7 + at * (1 + (i % 5))) % words.length]).join(' ');
    const paired = Array.from({ length: 2 * pairs }, (_, i): GenerateOptions => {
      return { messages: [{ role: 'user', content: `${words[i >> 1]} ${begin(i >> 1)} ${i % 2 ? 'red' : 'blue'}` }], maxNewTokens };
    });
    const shared: number[] = [];
    for await (const outcome of chat.answers(paired, { slots: 8 }))
      if ('answer' in outcome) shared[outcome.index] = outcome.answer.usage.sharedTokens;
    expect(shared.filter((tokens) => tokens >= 40)).toHaveLength(pairs);
  },
);
