import { DataError } from '../errors.ts';
import type { ChatModel } from '../generate/generate.ts';
import type { KvCache } from '../nn/kv-cache.ts';
import type { Message } from '../processor/message.ts';
import { noGrad } from '../tensor/autograd.ts';
import { cat, indices } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';

/**
 * How unlikely a model finds each answer to a conversation: its mean cross-entropy in nats over the answer's tokens, the end of the turn left out. The
 * conversation is read once, the answers behind it together. Throws DataError for images that cannot be read and for prompts that are too long.
 */
export async function answerLosses(
  { model, processor, contextTokens }: ChatModel,
  messages: readonly Message[],
  answers: readonly string[],
): Promise<number[]> {
  const prompt = await processor.read(messages);
  const stop = new Set(processor.stopIds);
  const whole = await Promise.all(answers.map((content) => processor.read([...messages, { role: 'assistant', content }], { train: true })));
  const endings = whole.map(({ ids }) => {
    // The ids of a prompt are a prefix of the ids with an answer; what ends the turn is no part of the answer.
    const ending = [...ids.subarray(prompt.ids.length)];
    const end = ending.findIndex((id) => stop.has(id));
    return end === -1 ? ending : ending.slice(0, end);
  });
  const longest = prompt.ids.length + Math.max(0, ...endings.map(({ length }) => length));
  if (longest > contextTokens) {
    throw new DataError(`the prompt has ${longest} tokens with its longest choice, and the model reads ${contextTokens}`, {
      hint: 'shorten the question, or use fewer images',
    });
  }
  const pixels = await Promise.all(prompt.images.map(({ source, layout }) => processor.image.load(source, layout)));
  const layouts = prompt.images.map(({ layout }) => layout);
  const cache = model.languageModel.createCache({ capacity: prompt.ids.length });
  const forks: KvCache[] = [];
  try {
    return noGrad(() => {
      using _ = new Scope();
      const { device } = model.languageModel.headWeight;
      const imageFeatures =
        pixels.length === 0 ? undefined : cat(model.imageEmbeddings(model.encodeImages(cat(pixels).to({ device })), layouts));
      const known = prompt.ids.length - 1;
      if (known > 0) model.hidden({ ids: prompt.ids.slice(0, known), lengths: [known], imageFeatures, caches: [cache] });
      // The prompt's last token predicts the first of each answer, an answer's last token predicts nothing that counts.
      const last = prompt.ids[known] ?? 0;
      const sequences = endings.map((ending) => [last, ...ending.slice(0, -1)]);
      for (const sequence of sequences) forks.push(cache.fork({ capacity: known + sequence.length }));
      const hidden = model.hidden({
        ids: Int32Array.from(sequences.flat()),
        lengths: sequences.map(({ length }) => length),
        caches: forks,
      });
      const wanted = indices(endings.flatMap((ending) => (ending.length === 0 ? [0] : ending))).to({ device });
      const likely = model.logits(hidden).logSoftmax(-1).gather(1, wanted.unsqueeze(1)).to({ device: 'cpu' }).toArray();
      let row = 0;
      return endings.map(({ length }) => {
        const rows = Array.from(likely.slice(row, row + Math.max(1, length)), Number);
        row += Math.max(1, length);
        return length === 0 ? Number.POSITIVE_INFINITY : -rows.reduce((sum, one) => sum + one, 0) / length;
      });
    });
  } finally {
    for (const one of [cache, ...forks, ...pixels]) one.free();
  }
}
