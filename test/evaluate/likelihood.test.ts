import { describe, expect, test } from 'vitest';
import { answerLosses } from '../../src/evaluate/likelihood.ts';
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
const answers = ['red', 'green circle', 'yes', 'a b c d'];

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

describe('the losses of answers behind one prompt', () => {
  test.each([
    ['with an image', true],
    ['without one', false],
  ])('are those of each answer by itself, %s', async (_, withImage) => {
    const text = { type: 'text', text: 'what is the colour of this?' } as const;
    const messages: Message[] = [{ role: 'user', content: withImage ? [{ type: 'image', image: await picture(1) }, text] : [text] }];
    const together = await answerLosses(chat, messages, answers);
    for (const [i, answer] of answers.entries()) expect(together[i]).toBeCloseTo(await alone(messages, answer), 4);
    expect(new Set(together.map((loss) => loss.toFixed(3))).size).toBe(4);
  });

  test('give back all that they took', async () => {
    const messages: Message[] = [{ role: 'user', content: 'what is this?' }];
    await answerLosses(chat, messages, answers);
    const before = liveTensors();
    await answerLosses(chat, messages, answers);
    expect(liveTensors()).toBe(before);
  });

  test('are not asked for where the model does not read that far', async () => {
    const messages: Message[] = [{ role: 'user', content: 'red '.repeat(300) }];
    await expect(answerLosses(chat, messages, answers)).rejects.toThrow(
      /the prompt has 3\d\d tokens with its longest choice, and the model reads 256/,
    );
  });
});
