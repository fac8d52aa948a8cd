import { beforeEach, describe, expect, test } from 'vitest';
import { Random } from '../../src/data/random.ts';
import { Likelihood } from '../../src/evaluate/likelihood.ts';
import { ChatModel } from '../../src/generate/generate.ts';
import type { Message } from '../../src/processor/message.ts';
import { noGrad } from '../../src/tensor/autograd.ts';
import { cat, indices } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Scope } from '../../src/tensor/scope.ts';
import { targetsOf } from '../../src/train/loss.ts';
import { onOneThread, picture, tinyModel } from '../generate/tiny-model.ts';

onOneThread();
const { model, processor } = tinyModel();
const chat = new ChatModel(model, processor);
const words = 'what is the colour of this shape red blue green circle square yes no a b c d e f g'.split(' ');
const answers = ['red', 'green circle', 'yes', 'a b c d'];

/** What went through the model while `counting`. */
const spent = { counting: false, views: 0, tokens: [] as number[] };
const [encodeImages, hidden] = [model.encodeImages.bind(model), model.hidden.bind(model)];
model.encodeImages = (pixels) => {
  if (spent.counting) spent.views += pixels.size(0);
  return encodeImages(pixels);
};
model.hidden = (input) => {
  if (spent.counting) spent.tokens.push(input.ids.length);
  return hidden(input);
};
beforeEach(() => Object.assign(spent, { counting: false, views: 0, tokens: [] }));

/** Each answer by itself, read from the beginning: the loss of training, without the end of the turn. */
async function alone(messages: readonly Message[], answer: string): Promise<number> {
  const { ids, labels, images } = await processor.read([...messages, { role: 'assistant', content: answer }], { train: true });
  const pixels = await Promise.all(images.map(({ source, layout }) => processor.image.load(source, layout)));
  return noGrad(() => {
    using _ = new Scope();
    const hidden = model.hidden({ ids, lengths: [ids.length], pixels: pixels.length > 0 ? cat(pixels) : undefined });
    const { rows, tokens } = targetsOf({ labels, lengths: [ids.length] });
    const said = tokens.filter((token) => !processor.stopIds.includes(token)).length;
    const likely = model
      .logits(hidden.indexSelect(0, indices(rows.slice(0, said))))
      .logSoftmax(-1)
      .gather(1, indices(tokens.slice(0, said)).unsqueeze(1))
      .toArray();
    return -Array.from(likely, Number).reduce((sum, one) => sum + one, 0) / said;
  });
}

/** The losses of answers to one conversation, with nothing known of others. */
async function unshared(messages: readonly Message[], choices: readonly string[]): Promise<number[]> {
  using likelihood = new Likelihood(chat);
  return likelihood.losses(await likelihood.prepare(messages, choices));
}

const asked = (text: string, ...images: Uint8Array[]): Message[] => [
  { role: 'user', content: [...images.map((image) => ({ type: 'image', image }) as const), { type: 'text', text }] },
];

describe('the losses of answers behind one prompt', () => {
  test.each([
    ['with an image', true],
    ['without one', false],
  ])('are those of each answer by itself, %s', async (_, withImage) => {
    const messages = asked('what is the colour of this?', ...(withImage ? [await picture(1)] : []));
    const together = await unshared(messages, answers);
    for (const [i, answer] of answers.entries()) expect(together[i]).toBeCloseTo(await alone(messages, answer), 4);
    expect(new Set(together.map((loss) => loss.toFixed(3))).size).toBe(4);
  });

  test('are those of each prompt by itself, in float32, when prompts of mixed lengths and images share what they begin with', async () => {
    const random = new Random(5);
    const images = await Promise.all(Array.from({ length: 5 }, (_, i) => picture(i)));
    const some = (length: number): string => Array.from({ length }, () => words[random.below(words.length)]).join(' ');
    const beginnings = Array.from({ length: 4 }, (_, i) => some(5 + 10 * i));
    using likelihood = new Likelihood(chat);
    let [letters, differences] = [0, 0];
    for (let i = 0; i < 60; i++) {
      const topic = random.below(beginnings.length);
      const shown = Array.from({ length: random.below(3) }, (_, at) => images[(topic + at) % images.length] ?? new Uint8Array());
      const messages = asked(`${beginnings[topic]} ${some(1 + random.below(12))}`, ...shown);
      const choices = Array.from({ length: 2 + random.below(3) }, () => some(1 + random.below(4)));
      spent.counting = true;
      const shared = likelihood.losses(await likelihood.prepare(messages, choices));
      spent.counting = false;
      const own = await unshared(messages, choices);
      differences = Math.max(differences, ...shared.map((loss, at) => Math.abs(loss - (own[at] ?? 0))));
      if (shared.indexOf(Math.min(...shared)) === own.indexOf(Math.min(...own))) letters += 1;
    }
    expect(differences).toBeLessThan(1e-4);
    expect(letters).toBe(60);
    expect(spent.views).toBe(images.length);
  });

  test('read only what a prompt does not begin with like the one before', async () => {
    using likelihood = new Likelihood(chat);
    const image = await picture(2);
    spent.counting = true;
    for (const text of ['what is the colour of this?', 'what is the shape?', 'what is the shape?'])
      likelihood.losses(await likelihood.prepare(asked(text, image), ['a b', 'c']));
    spent.counting = false;
    // A prompt up to its last token, then that token with each choice but the choice's last token.
    const [first, choices, second, third] = [spent.tokens[0] ?? 0, spent.tokens[1], spent.tokens[2] ?? 0, spent.tokens[4]];
    expect(choices).toBe(3);
    expect(second).toBeLessThan(first - 5);
    expect(third).toBe(3);
    expect(spent.tokens).toHaveLength(5);
  });

  test('give back all that they took', async () => {
    const before = liveTensors();
    const image = await picture(3);
    for (const text of ['what is this?', 'what is red?']) await unshared(asked(text, image), answers);
    expect(liveTensors()).toBe(before);
  });

  test('are not asked for where the model does not read that far', async () => {
    const messages: Message[] = [{ role: 'user', content: 'red '.repeat(300) }];
    await expect(unshared(messages, answers)).rejects.toThrow(
      /the prompt has 3\d\d tokens with its longest choice, and the model reads 256/,
    );
  });
});
