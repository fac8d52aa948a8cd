import { describe, expect, test } from 'vitest';
import { DataError } from '../../src/errors.ts';
import { ChatModel, type GenerateOptions, loadModel } from '../../src/generate/generate.ts';
import { commonPrefix } from '../../src/generate/prefix.ts';
import type { Answer } from '../../src/generate/reply.ts';
import type { Message } from '../../src/processor/message.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { ask, onOneThread, picture, tinyCheckpoint, tinyModel } from './tiny-model.ts';

onOneThread();

const { model, processor } = tinyModel();
const chat = new ChatModel(model, processor);
const [first, second, third] = await Promise.all([picture(1), picture(2), picture(3)]);

/** Requests of mixed lengths with no image, one, or several, some images shared. */
const questions: GenerateOptions[] = [
  { messages: ask('what is this ?'), images: [first] },
  { messages: ask('what is the colour of the shape ?') },
  { messages: ask('a'), images: [second, third] },
  {
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'is ' },
          { type: 'image', image: first },
          { type: 'text', text: ' red ?' },
        ],
      },
    ],
  },
  { messages: ask('blue , red , green ?'), images: [second] },
  {
    messages: [...ask('what is this ?'), { role: 'assistant', content: 'a circle' }, { role: 'user', content: 'is this a circle ?' }],
    images: [third],
  },
  { messages: ask('what is this ?'), images: [second] },
  { messages: ask('what is this ?'), images: [third] },
  { messages: ask('what is the shape ?'), images: [first, first] },
  { messages: ask('b c d e f g a b c d e f g a b c d e f g') },
  { messages: ask('is the square green ?'), images: [third] },
];
const requests = questions.map((request, i) => ({ ...request, maxNewTokens: 3 + ((i * 5) % 17) }));

async function drain(stream: AsyncGenerator<string, unknown>): Promise<{ pieces: string[]; value: unknown }> {
  const pieces: string[] = [];
  for (;;) {
    const step = await stream.next();
    if (step.done) return { pieces, value: step.value };
    pieces.push(step.value);
  }
}

async function answered(slots: number): Promise<number[][]> {
  const ids: number[][] = [];
  for await (const outcome of chat.answers(requests, { slots })) {
    if ('error' in outcome) throw outcome.error;
    ids[outcome.index] = [...outcome.answer.ids];
  }
  return ids;
}

describe('a model that answers', () => {
  test('gives the same answers alone, in slots that refill, and all at once', async () => {
    const alone = [];
    for (const request of requests) alone.push((await chat.generate(request)).ids);
    expect(new Set(alone.map(String)).size).toBeGreaterThan(7);
    expect(await answered(1)).toEqual(alone);
    expect(await answered(3)).toEqual(alone);
    expect(await answered(7)).toEqual(alone);
    expect(await answered(50)).toEqual(alone);
    const together = await Promise.all(requests.map((request) => chat.generate(request)));
    expect(together.map(({ ids }) => ids)).toEqual(alone);
  });

  test('draws the same for a seed whatever else is in the batch', async () => {
    const sampled = requests.map((request, seed) => ({ ...request, temperature: 2, topP: 0.95, repetitionPenalty: 1.1, seed }));
    const alone = [];
    for (const request of sampled) alone.push((await chat.generate(request)).text);
    const together = await Promise.all(sampled.map((request) => chat.generate(request)));
    expect(together.map(({ text }) => text)).toEqual(alone);
    expect((await chat.generate({ ...sampled[9], messages: ask('a'), seed: 100 })).text).not.toBe(alone[9]);
  });

  test('continues token by token as whole prompts would', async () => {
    const request = { messages: ask('what is this ?'), images: [first] };
    const { ids } = await chat.generate({ ...request, maxNewTokens: 8 });
    for (let length = 1; length < 8; length++) {
      const words = processor.tokenizer.decode(ids.slice(0, length), { keepSpecial: true });
      const shorter = await chat.generate({ ...request, maxNewTokens: length });
      expect(processor.tokenizer.decode(shorter.ids, { keepSpecial: true })).toBe(words);
    }
  });

  test('sees the images', async () => {
    const answer = async (image: Uint8Array): Promise<string> =>
      (await chat.generate({ messages: ask('what is this ?'), images: [image], maxNewTokens: 12 })).text;
    expect(await answer(first)).not.toBe(await answer(second));
  });

  test('streams pieces that make up the answer, and returns it', async () => {
    const request = { messages: ask('what is this ?'), images: [first], maxNewTokens: 9 };
    const { pieces, value } = await drain(chat.stream(request));
    const answer = await chat.generate(request);
    expect(value).toEqual(answer);
    expect(pieces.join('')).toBe(answer.text);
    expect(pieces.length).toBeGreaterThan(2);
  });

  test('says how long the answer is and why it ended', async () => {
    const request = { messages: ask('what is this ?'), images: [first] };
    const answer = await chat.generate({ ...request, maxNewTokens: 5 });
    expect(answer).toMatchObject({ finishReason: 'length', usage: { promptTokens: 4 + 4, sharedTokens: 0, completionTokens: 5 } });
    const word = answer.text.trim().split(' ').at(-1) ?? '';
    const stopped = await chat.generate({ ...request, maxNewTokens: 50, stop: [word] });
    expect(stopped.finishReason).toBe('stop');
    expect(stopped.text).toBe(answer.text.slice(0, answer.text.indexOf(word)));
    expect(await chat.generate({ ...request, maxNewTokens: 0 })).toMatchObject({ text: '', finishReason: 'length', ids: [] });
  });

  test('ends at the end-of-turn token, which is no part of the text', async () => {
    const eos = processor.stopIds[0] ?? -1;
    let seen = 0;
    for (let seed = 0; seed < 20; seed++) {
      const answer = await chat.generate({ messages: ask('what is this ?'), temperature: 3, seed, maxNewTokens: 40 });
      const at = answer.ids.indexOf(eos);
      expect(at).toBe(answer.finishReason === 'stop' ? answer.ids.length - 1 : -1);
      expect(answer.text).not.toContain('</s>');
      if (at >= 0) seen += 1;
    }
    expect(seen).toBeGreaterThan(0);
  });

  test('never answers with an image', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const { ids } = await chat.generate({ messages: ask('what is this ?'), temperature: 5, seed, maxNewTokens: 30 });
      expect(ids).not.toContain(processor.imageTokenId);
    }
  });

  test('gives back what it took', async () => {
    await answered(3);
    chat.free();
    const before = liveTensors();
    await answered(4);
    await drain(chat.stream({ messages: ask('a'), images: [first], maxNewTokens: 4 }));
    for await (const _ of chat.stream({ messages: ask('b'), images: [second], maxNewTokens: 30 })) break;
    chat.free();
    expect(liveTensors()).toBe(before);
  });

  test('lets the event loop turn between tokens', async () => {
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 0);
    await chat.generate({ messages: ask('a'), maxNewTokens: 100, temperature: 1, seed: 3, stop: [] });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(3);
  });
});

describe('prompts that begin the same', () => {
  const story = 'a b c d e f g '.repeat(5).trim();
  const about = (image: Uint8Array, question: string): GenerateOptions => ({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: `${story} ` },
          { type: 'image', image },
          { type: 'text', text: ` ${question}` },
        ],
      },
    ],
    maxNewTokens: 7,
  });
  const questions = ['is this red ?', 'is this blue ?', 'what is this ?', 'is this red ?', '', 'what is the colour of this shape ?'];
  const requests = [first, second].flatMap((image) => questions.map((question) => about(image, question)));

  test('are computed once up to where they differ, and answered as if they were not', async () => {
    const alone = [];
    for (const request of requests) alone.push((await chat.generate(request)).ids);
    expect(new Set(alone.map(String)).size).toBeGreaterThan(8);
    for (const slots of [1, 4, 20]) {
      const answers: Answer[] = [];
      for await (const outcome of chat.answers(requests, { slots })) if ('answer' in outcome) answers[outcome.index] = outcome.answer;
      expect(answers.map(({ ids }) => ids)).toEqual(alone);
      const shared = answers.map(({ usage }) => usage.sharedTokens);
      // The story, then the picture, then words of the question; one token is always left to compute, and no half of a picture is shared.
      const least = [0, 41, 39, 41, 35, 39, 35, 41, 39, 41, 35, 39];
      expect(shared.filter((tokens, i) => tokens < (least[i] ?? 0))).toEqual([]);
      expect([shared[0], shared[4], shared[6]]).toEqual([0, 35, 35]);
    }
  });

  test('are remembered from one call to the next only when asked for', async () => {
    const remembering = new ChatModel(model, processor, { remembered: 1 });
    const turn = (text: string): Message => ({ role: 'user', content: text });
    const one = await remembering.generate({ messages: [turn(story)], maxNewTokens: 6 });
    const messages: Message[] = [turn(story), { role: 'assistant', content: one.text }, turn('what ?')];
    const two = await remembering.generate({ messages, maxNewTokens: 6 });
    expect(two.usage.sharedTokens).toBeGreaterThanOrEqual(35);
    expect(two.ids).toEqual((await chat.generate({ messages, maxNewTokens: 6 })).ids);
    expect((await chat.generate({ messages, maxNewTokens: 6 })).usage.sharedTokens).toBe(0);
    remembering.free();
  });

  test.each([
    ['equal texts', [1, 2, 3], [], [1, 2, 3, 4], [], { tokens: 3, images: 0 }],
    ['texts that differ', [1, 2, 3], [], [1, 5, 3], [], { tokens: 1, images: 0 }],
    ['one image', [1, 9, 9, 2], ['a'], [1, 9, 9, 3], ['a'], { tokens: 3, images: 1 }],
    ['two images', [1, 9, 9, 2], ['a'], [1, 9, 9, 2], ['b'], { tokens: 1, images: 0 }],
    ['images side by side', [9, 9, 9, 9, 1], ['a', 'b'], [9, 9, 9, 9, 1], ['a', 'c'], { tokens: 2, images: 1 }],
    ['more images than there are', [9, 9, 1], ['a'], [9, 9, 9, 9, 1], ['a', 'a'], { tokens: 2, images: 1 }],
  ])('share of %s what is the same', (_, a, aImages, b, bImages, expected) => {
    const prompt = (ids: number[], images: string[]) => {
      const first = ids.indexOf(9);
      return { ids, images: images.map((key, i) => ({ image: { key }, start: first + 2 * i, end: first + 2 * i + 2 })) };
    };
    expect(commonPrefix(prompt(a, aImages), prompt(b, bImages), 10)).toEqual(expected);
  });

  test('share no half of an image at the limit', () => {
    const prompt = { ids: [1, 9, 9, 9, 2], images: [{ image: { key: 'a' }, start: 1, end: 4 }] };
    expect([2, 3, 4].map((limit) => commonPrefix(prompt, prompt, limit).tokens)).toEqual([1, 1, 4]);
  });
});

describe('an answer that is given up', () => {
  test('throws the reason of its signal and leaves the others alone', async () => {
    const abort = new AbortController();
    const request = { messages: ask('what is this ?'), images: [first], maxNewTokens: 100, temperature: 1, seed: 4 };
    const expected = await chat.generate(request);
    const dropped = chat.stream({ messages: ask('a'), maxNewTokens: 200, signal: abort.signal });
    const kept = chat.generate(request);
    await dropped.next();
    abort.abort(new Error('enough'));
    await expect(drain(dropped)).rejects.toThrow('enough');
    expect(await kept).toEqual(expected);
  });

  test('fails when the model is freed meanwhile', async () => {
    const other = new ChatModel(model, processor);
    const pieces = other.stream({ messages: ask('a'), maxNewTokens: 200 });
    await pieces.next();
    other.free();
    await expect(drain(pieces)).rejects.toThrow('the model was freed while it answered');
  });

  test('does not start when its signal was aborted before', async () => {
    await expect(chat.generate({ messages: ask('a'), signal: AbortSignal.abort(new Error('too late')) })).rejects.toThrow('too late');
  });

  test('ends a whole run of requests', async () => {
    const abort = new AbortController();
    const run = async (): Promise<number> => {
      let count = 0;
      for await (const _ of chat.answers(requests, { slots: 2, signal: abort.signal })) {
        count += 1;
        if (count === 3) abort.abort(new Error('stop here'));
      }
      return count;
    };
    await expect(run()).rejects.toThrow('stop here');
  });
});

describe('a request that cannot be answered', () => {
  test('has its error for an outcome, and the others are answered', async () => {
    const broken = { messages: ask('what is this ?'), images: ['/nowhere/missing.png'] };
    const outcomes = [];
    for await (const outcome of chat.answers([requests[0] ?? broken, broken, requests[1] ?? broken], { slots: 2 })) outcomes.push(outcome);
    expect(outcomes.map(({ index }) => index).sort()).toEqual([0, 1, 2]);
    const failed = outcomes.find((outcome) => 'error' in outcome);
    expect(failed).toMatchObject({ index: 1 });
    expect(failed && 'error' in failed && failed.error).toMatchInlineSnapshot(`[DataError: /nowhere/missing.png does not exist]`);
  });

  test('is refused when the prompt is too long, and shortened answers fill the context', async () => {
    const small = new ChatModel(...(Object.values(tinyModel({ contextTokens: 11 })) as ConstructorParameters<typeof ChatModel>));
    await expect(small.generate({ messages: ask('a b c d e f g'), images: [first] })).rejects.toMatchInlineSnapshot(
      `[DataError: the prompt has 11 tokens, and the model reads 11 with its answer]`,
    );
    const answer = await small.generate({ messages: ask('a b c d e'), images: [first], maxNewTokens: 50, temperature: 1, seed: 1 });
    expect(answer.usage.promptTokens + answer.usage.completionTokens).toBe(11);
  });

  test('is refused when there is nothing to answer', async () => {
    await expect(chat.generate({ messages: [] })).rejects.toMatchInlineSnapshot(`[DataError: the prompt is empty]`);
  });

  test('is refused when images have no message to belong to', async () => {
    await expect(chat.generate({ messages: [], images: [first] })).rejects.toBeInstanceOf(DataError);
  });

  test('is refused when an option is misspelt or out of range', async () => {
    const wrong = { messages: ask('a'), temprature: 1, maxNewTokens: -1 } as GenerateOptions;
    await expect(chat.generate(wrong)).rejects.toMatchInlineSnapshot(`[ConfigError: generation: Unrecognized key: "temprature"]`);
    await expect(chat.generate({ messages: ask('a'), maxNewTokens: -1 })).rejects.toMatchInlineSnapshot(
      `[ConfigError: generation.maxNewTokens: Too small: expected number to be >=0, got -1]`,
    );
  });
});

describe('loadModel', () => {
  test('opens a checkpoint folder, in another dtype too', async () => {
    const { folder, remove } = await tinyCheckpoint();
    try {
      const opened = await loadModel(folder);
      const request = { messages: ask('what is this ?'), images: [second], maxNewTokens: 10 };
      expect(await opened.generate(request)).toEqual(await chat.generate(request));
      const half = await loadModel(folder, { dtype: 'bfloat16' });
      expect(half.model.languageModel.headWeight.dtype).toBe('bfloat16');
      expect((await half.generate(request)).ids).toHaveLength(10);
    } finally {
      remove();
    }
  });

  test('says what is wrong with a folder that is none', async () => {
    await expect(loadModel('/nowhere')).rejects.toMatchInlineSnapshot(`[CheckpointError: /nowhere: no such folder]`);
  });
});
