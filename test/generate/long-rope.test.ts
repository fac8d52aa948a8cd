import { afterAll, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import { Likelihood } from '../../src/evaluate/likelihood.ts';
import { ChatModel } from '../../src/generate/generate.ts';
import type { Message } from '../../src/processor/message.ts';
import { noGrad } from '../../src/tensor/autograd.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { onOneThread, picture, tinyModel } from './tiny-model.ts';

onOneThread();

/** Sequences of more than 60 tokens turn by other frequencies. */
const rope = { ropeType: 'longrope', ropeTheta: 10_000, shortFactor: [1, 1, 1, 1], longFactor: [1, 2, 3, 4] };
const { model, processor } = tinyModel({ language: { type: 'phi3', originalMaxPositionEmbeddings: 60, ropeParameters: rope } });
const chat = new ChatModel(model, processor);
afterAll(() => chat.free());

const words = 'what is the colour of this shape red blue green circle square yes no a b c d e f g'.split(' ');
const random = new Random(3);
const some = (length: number): string => Array.from({ length }, () => words[random.below(words.length)]).join(' ');
const [beginning, images] = [some(32), await Promise.all([0, 1, 2].map((i) => picture(i)))];
const questions = Array.from({ length: 40 }, (): Message[] => {
  const image = { type: 'image', image: images[random.below(3)] ?? new Uint8Array() } as const;
  return [{ role: 'user', content: [image, { type: 'text', text: `${beginning} ${some(1 + random.below(40))}` }] }];
});

/** What `find` makes of the logits of a prompt and some tokens behind it, read as a whole. */
async function reading<Found>(messages: readonly Message[], behind: readonly number[], find: (logits: Tensor) => Found): Promise<Found> {
  const { ids, images } = await processor.read(messages);
  const [shown] = images;
  const pixels = shown && (await processor.image.load(shown.source, shown.layout));
  return noGrad(() => {
    using _ = new Scope();
    const all = Int32Array.of(...ids, ...behind);
    return find(model.logits(model.hidden({ ids: all, lengths: [all.length], pixels })));
  });
}

test('answers that grow past the short length of LongRoPE, or share a beginning with longer prompts, are those of each prompt read anew at every token', async () => {
  const alone: number[][] = [];
  for (const messages of questions) {
    const ids: number[] = [];
    while (ids.length < 16 && !processor.stopIds.includes(ids.at(-1) ?? -1))
      ids.push(
        await reading(messages, ids, (logits) => {
          logits.select(1, processor.imageTokenId).fill_(Number.NEGATIVE_INFINITY);
          return Number(logits.argmax(1).toArray().at(-1));
        }),
      );
    alone.push(ids);
  }
  for (const [slots, remembered] of [
    [1, 0],
    [1, 3],
    [7, 2],
  ] as const) {
    const found: (readonly number[])[] = [];
    let shared = 0;
    const requests = questions.map((messages) => ({ messages, maxNewTokens: 16 }));
    for await (const outcome of chat.answers(requests, { slots, remembered })) {
      if ('error' in outcome) throw outcome.error;
      found[outcome.index] = outcome.answer.ids;
      if (outcome.answer.usage.sharedTokens > 0) shared += 1;
    }
    expect(found).toEqual(alone);
    if (remembered > 0) expect(shared).toBeGreaterThan(5);
  }
});

test('choices that end behind that length weigh as each does by itself', async () => {
  using likelihood = new Likelihood(chat);
  const choices = ['red', 'a b c d e f g a b c d e f g', 'green circle'];
  for (const messages of questions) {
    const prepared = await likelihood.prepare(messages, choices);
    const { endings } = prepared;
    const found = likelihood.losses(prepared);
    for (const [i, ending] of endings.entries()) {
      const expected = await reading(messages, ending.slice(0, -1), (logits) => {
        const rows = logits.logSoftmax(-1).narrow(0, logits.size(0) - ending.length, ending.length);
        const likely = ending.map((id, row) => Number(rows.select(0, row).select(0, id).item()));
        return -likely.reduce((sum, one) => sum + one, 0) / ending.length;
      });
      expect(Math.abs((found[i] ?? Number.NaN) - expected)).toBeLessThan(1e-4);
    }
  }
});
