import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { ChatModel, type GenerateOptions } from '../../src/generate/generate.ts';
import { ask, onOneThread, picture, tinyModel } from './tiny-model.ts';

onOneThread();

/** A model that counts the sequences of each of its forward passes. */
function counted(): { chat: ChatModel; passes: number[] } {
  const { model, processor } = tinyModel();
  const passes: number[] = [];
  const hidden = model.hidden.bind(model);
  model.hidden = (input) => {
    passes.push(input.lengths.length);
    return hidden(input);
  };
  return { chat: new ChatModel(model, processor), passes };
}

test('steps wait for requests whose images are being decoded and for answers being taken, so that batches are full', async () => {
  const { chat, passes } = counted();
  const images = await Promise.all(Array.from({ length: 64 }, (_, i) => picture(i, 200)));
  const requests = images.map((image): GenerateOptions => ({ messages: ask('what is this ?'), images: [image], maxNewTokens: 1 }));
  let answers = 0;
  for await (const _ of chat.answers(requests, { slots: 16 })) {
    answers += 1;
    // As long as writing an answer to a file takes.
    await setImmediate();
  }
  expect(answers).toBe(64);
  expect(passes).toEqual([16, 16, 16, 16]);
});

test('steps do not wait for requests that nobody has made yet', async () => {
  const { chat } = counted();
  let make = (_: GenerateOptions): void => {};
  async function* source(): AsyncGenerator<GenerateOptions> {
    yield { messages: ask('what is this ?'), maxNewTokens: 2 };
    yield await new Promise<GenerateOptions>((resolve) => {
      make = resolve;
    });
  }
  const answers = chat.answers(source(), { slots: 4 });
  expect((await answers.next()).value).toMatchObject({ index: 0 });
  make({ messages: ask('is it red ?'), maxNewTokens: 2 });
  expect((await answers.next()).value).toMatchObject({ index: 1 });
  expect(await answers.next()).toEqual({ done: true, value: undefined });
});

test('a run that is left early gives its slots back', async () => {
  const { chat, passes } = counted();
  const requests = Array.from(
    { length: 40 },
    (_, i): GenerateOptions => ({ messages: ask(`is it ${'a b '.repeat(i)}?`), maxNewTokens: 4 }),
  );
  for await (const outcome of chat.answers(requests, { slots: 4 })) if (outcome.index >= 0) break;
  const before = passes.length;
  await setImmediate();
  await setImmediate();
  expect(passes.length).toBe(before);
});
