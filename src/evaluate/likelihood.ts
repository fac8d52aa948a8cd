import { DataError } from '../errors.ts';
import type { ChatModel } from '../generate/generate.ts';
import { ImageStore, type PlacedImage } from '../generate/image-store.ts';
import { commonPrefix, type Prompt } from '../generate/prefix.ts';
import type { KvCache } from '../nn/kv-cache.ts';
import type { Message } from '../processor/message.ts';
import { noGrad } from '../tensor/autograd.ts';
import { indices } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';

/** A conversation and the answers that may follow, as tokens, with its images decoded. */
interface Weighable {
  readonly ids: Int32Array;
  readonly images: readonly PlacedImage[];
  /** The tokens of each answer, without what ends the turn. */
  readonly endings: readonly (readonly number[])[];
}

/**
 * Weighs answers to conversations, one conversation after the other. An image is computed once, and what a conversation begins with like the one before is
 * not read again.
 */
export class Likelihood implements Disposable {
  readonly #chat: ChatModel;
  readonly #images: ImageStore;
  #cache: KvCache | undefined;
  /** What the cache holds. */
  #read: Prompt = { ids: [], images: [] };

  constructor(chat: ChatModel) {
    this.#chat = chat;
    this.#images = new ImageStore(chat.model, chat.processor);
  }

  /** Reads a conversation and decodes its images, which are held until `losses`. Throws DataError for images that cannot be read and for prompts that are too long. */
  async prepare(messages: readonly Message[], answers: readonly string[]): Promise<Weighable> {
    const { processor, contextTokens } = this.#chat;
    const { ids, images } = await processor.read(messages);
    const stop = new Set(processor.stopIds);
    const whole = await Promise.all(
      answers.map((content) => processor.read([...messages, { role: 'assistant', content }], { train: true })),
    );
    const endings = whole.map((answered) => {
      // The ids of a prompt are a prefix of the ids with an answer; what ends the turn is no part of the answer.
      const ending = [...answered.ids.subarray(ids.length)];
      const end = ending.findIndex((id) => stop.has(id));
      return end === -1 ? ending : ending.slice(0, end);
    });
    const longest = ids.length + Math.max(0, ...endings.map(({ length }) => length));
    if (longest > contextTokens) {
      throw new DataError(`the prompt has ${longest} tokens with its longest choice, and the model reads ${contextTokens}`, {
        hint: 'shorten the question, or use fewer images',
      });
    }
    return { ids, images: await this.#images.acquire(images), endings };
  }

  /**
   * How unlikely the model finds each answer: its mean cross-entropy in nats over the answer's tokens, the end of the turn left out. The answers are
   * read together behind the conversation.
   */
  losses({ ids, images, endings }: Weighable): number[] {
    const forks: KvCache[] = [];
    try {
      return noGrad(() => {
        using _ = new Scope();
        const { model } = this.#chat;
        const cache = this.#upToLast({ ids, images });
        // The prompt's last token predicts the first of each answer, an answer's last token predicts nothing that counts.
        const last = ids.at(-1) ?? 0;
        const ends = endings.map((ending) => [last, ...ending.slice(0, -1)]);
        // An answer that the cache does not serve is read with the conversation before it.
        const known = ends.map(({ length }) => (model.languageModel.cacheServes(cache.length, cache.length + length) ? cache.length : 0));
        const sequences = ends.map((end, i) => [...ids.subarray(known[i], ids.length - 1), ...end]);
        const shown = sequences.flatMap((_, i) => (known[i] === cache.length ? [] : images));
        for (const { length } of ends) forks.push(cache.fork({ capacity: cache.length + length }));
        for (const [i, fork] of forks.entries()) fork.truncate(known[i] ?? 0);
        let end = 0;
        const hidden = model.hidden({
          ids: Int32Array.from(sequences.flat()),
          lengths: sequences.map(({ length }) => length),
          imageFeatures: this.#images.features(shown.map(({ image }) => image)),
          caches: forks,
          wanted: sequences.flatMap(({ length }, i) => {
            end += length;
            const rows = ends[i]?.length ?? 0;
            return Array.from({ length: rows }, (_, row) => end - rows + row);
          }),
        });
        const wanted = indices(endings.flatMap((ending) => (ending.length === 0 ? [0] : ending))).to({ device: hidden.device });
        const likely = model.logits(hidden).logSoftmax(-1).gather(1, wanted.unsqueeze(1)).to({ device: 'cpu' }).toArray();
        let row = 0;
        return endings.map(({ length }) => {
          const rows = Array.from(likely.slice(row, row + Math.max(1, length)), Number);
          row += Math.max(1, length);
          return length === 0 ? Number.POSITIVE_INFINITY : -rows.reduce((sum, one) => sum + one, 0) / length;
        });
      });
    } finally {
      for (const fork of forks) fork.free();
      this.#images.release(images);
    }
  }

  /** Gives back the memory of images and of the last conversation. */
  [Symbol.dispose](): void {
    this.#cache?.free();
    this.#images.free();
  }

  /** The cache with all of a prompt but its last token. */
  #upToLast({ ids, images }: Pick<Weighable, 'ids' | 'images'>): KvCache {
    const { model } = this.#chat;
    this.#cache ??= model.languageModel.createCache({ capacity: ids.length });
    const known = ids.length - 1;
    const begun = this.#cache.length;
    const common = commonPrefix(this.#read, { ids, images }, Math.min(begun, known));
    const right = [begun, common.tokens].every((length) => model.languageModel.cacheServes(length, known));
    const shared = right ? common : { tokens: 0, images: 0 };
    this.#cache.truncate(shared.tokens);
    if (shared.tokens < known) {
      model.hidden({
        ids: ids.slice(shared.tokens, known),
        lengths: [known - shared.tokens],
        imageFeatures: this.#images.features(images.slice(shared.images).map(({ image }) => image)),
        caches: [this.#cache],
        wanted: [],
      });
    }
    this.#read = { ids, images };
    return this.#cache;
  }
}
