import { setMaxListeners } from 'node:events';
import { z } from 'zod';
import { ConfigError, DataError, TinyLlavaError } from '../errors.ts';
import { resolveFrom, resolveModel } from '../hub/resolve.ts';
import type { Log } from '../log.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import type { OpenOptions } from '../model/model-files.ts';
import { check } from '../model/registry.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { contentParts, type ImageSource, type InputMessage } from '../processor/message.ts';
import { openProcessor } from '../processor/open.ts';
import type { Processor } from '../processor/processor.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import { Batch, type BatchOptions, type BatchRequest } from './batch.ts';
import { ImageStore } from './image-store.ts';
import { Queue } from './queue.ts';
import { type Answer, Reply } from './reply.ts';
import { Sampler, type SamplingOptions } from './sample.ts';

/** What to answer, and how. */
export interface GenerateOptions extends SamplingOptions {
  readonly messages: readonly InputMessage[];
  /** Images that stand before the text of the user's first message; further ones stand in the messages themselves. */
  readonly images?: readonly ImageSource[] | undefined;
  /** 512 unless said otherwise. */
  readonly maxNewTokens?: number | undefined;
  /** Strings that end the answer and are not a part of it. */
  readonly stop?: readonly string[] | undefined;
  /** Aborting it makes the call throw the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** The answer to the request of this number, or the DataError that says what is wrong with the request. */
export type Outcome = { readonly index: number; readonly answer: Answer } | { readonly index: number; readonly error: DataError };

const Limits = z.object({ maxNewTokens: z.int().nonnegative().default(512), stop: z.array(z.string()).default([]) });

/** A request with its images decoded. */
interface Prepared {
  readonly request: BatchRequest;
  readonly reply: Reply;
  readonly signal: AbortSignal | undefined;
}

/** A model that answers. Calls that overlap in time share forward passes. */
export class ChatModel {
  readonly model: TinyLlava;
  readonly processor: Processor;
  readonly #images: ImageStore;
  readonly #queue: Queue;

  constructor(model: TinyLlava, processor: Processor, options: BatchOptions = {}) {
    if (model.visionTower && model.config.imageTokenId !== processor.imageTokenId) {
      throw new ConfigError(
        `images are token ${model.config.imageTokenId} in config.json, but the tokenizer's ${processor.imageToken} is ${processor.imageTokenId}`,
        { hint: 'take tokenizer and config.json from the same checkpoint' },
      );
    }
    this.model = model;
    this.processor = processor;
    this.#images = new ImageStore(model, processor);
    this.#queue = new Queue(new Batch(model, this.#images, options));
  }

  /** Tokens that the language model was made for, prompt and answer together. */
  get contextTokens(): number {
    return this.model.contextTokens;
  }

  /** The whole answer. Throws ConfigError, DataError, or the signal's reason. */
  async generate(options: GenerateOptions): Promise<Answer> {
    return last(this.stream(options));
  }

  /** The answer piece by piece as it grows, never half a character; the generator returns what `generate` does, and throws as it does. */
  async *stream(options: GenerateOptions): AsyncGenerator<string, Answer> {
    return yield* this.#follow(await this.#prepare(options), this.#queue);
  }

  /**
   * Answers many requests, `slots` at a time, each given out as soon as it is known. One that cannot be answered, say for an unreadable image,
   * has its DataError for an outcome; every other error ends them all.
   */
  async *answers(
    requests: Iterable<GenerateOptions> | AsyncIterable<GenerateOptions>,
    options: BatchOptions & { signal?: AbortSignal } = {},
  ): AsyncGenerator<Outcome, void> {
    const { slots = 8, signal } = options;
    const supply = new Supply();
    const queue = new Queue(new Batch(this.model, this.#images, { remembered: 2, ...options, slots }), { coming: () => supply.coming() });
    const over = new AbortController();
    const running = AbortSignal.any(signal ? [signal, over.signal] : [over.signal]);
    // Every open request listens.
    setMaxListeners(0, running);
    const open = new Map<number, Promise<Outcome>>();
    const source = Symbol.asyncIterator in requests ? requests[Symbol.asyncIterator]() : requests[Symbol.iterator]();
    let coming: Promise<Coming> | undefined;
    let ended = false;
    let turn: Promise<void> = Promise.resolve();
    let index = 0;
    try {
      for (;;) {
        running.throwIfAborted();
        // As many wait as are being answered, so that a free slot is filled at once.
        if (!ended && open.size < 2 * slots) coming ??= upcoming(source, running);
        if (coming === undefined && open.size === 0) return;
        const event = await Promise.race([...(coming ? [coming] : []), ...open.values()]);
        if (!('coming' in event)) {
          open.delete(event.index);
          yield event;
          supply.add({ untaken: -1 });
          continue;
        }
        coming = undefined;
        ended = event.coming.done === true;
        if (event.coming.done) continue;
        const request = event.coming.value;
        const prepared = this.#prepare({ ...request, signal: request.signal ? AbortSignal.any([running, request.signal]) : running });
        // Images are decoded at once, but requests line up in their order; each forgets those before it.
        turn = Promise.allSettled([turn, prepared]).then(() => undefined);
        supply.add({ preparing: 1 });
        const answered = turn.then(async () => {
          supply.add({ preparing: -1 });
          return last(this.#follow(await prepared, queue));
        });
        open.set(
          index,
          outcome(index, answered).finally(() => supply.add({ untaken: 1 })),
        );
        index += 1;
      }
    } finally {
      over.abort();
      supply.end();
      await Promise.allSettled(open.values());
      queue.clear(undefined);
    }
  }

  /** Gives back the memory of the images and prompts that are remembered for later questions. Calls that are under way fail. */
  free(): void {
    this.#queue.clear(new TinyLlavaError('the model was freed while it answered'));
    this.#images.free();
  }

  async #prepare({ messages, images = [], maxNewTokens, stop, signal, ...sampling }: GenerateOptions): Promise<Prepared> {
    signal?.throwIfAborted();
    const sampler = new Sampler(sampling);
    const limits = check(Limits, { maxNewTokens, stop }, { where: 'generation' });
    const conversation = withImages(messages, images);
    const shown = conversation.flatMap(contentParts).filter(({ type }) => type !== 'text').length;
    if (shown > 0 && !this.model.visionTower) {
      throw new DataError(`${shown} images for a model that is a language model alone`, { hint: 'leave the images out' });
    }
    const example = await this.processor.read(conversation);
    const promptTokens = example.ids.length;
    if (promptTokens === 0) throw new DataError('the prompt is empty', { hint: 'give the last message a text or an image' });
    if (promptTokens >= this.contextTokens) {
      throw new DataError(`the prompt has ${promptTokens} tokens, and the model reads ${this.contextTokens} with its answer`, {
        hint: 'shorten the conversation, or use fewer images',
      });
    }
    const reply = new Reply(this.processor.tokenizer, {
      promptTokens,
      maxNewTokens: Math.min(limits.maxNewTokens, this.contextTokens - promptTokens),
      stopIds: new Set(this.processor.stopIds),
      stop: limits.stop,
    });
    const request = {
      ids: example.ids,
      images: await this.#images.acquire(example.images),
      sampler,
      maxNewTokens: limits.maxNewTokens,
      begin: (sharedTokens: number) => reply.begin(sharedTokens),
      take: (id: number) => reply.take(id),
    };
    return { request, reply, signal };
  }

  async *#follow({ request, reply, signal }: Prepared, queue: Queue): AsyncGenerator<string, Answer> {
    const abort = (): void => {
      queue.remove(request);
      reply.fail(signal?.reason);
    };
    try {
      signal?.throwIfAborted();
      signal?.addEventListener('abort', abort, { once: true });
      if (!reply.over) queue.add(request, reply);
      return yield* reply.pieces();
    } finally {
      signal?.removeEventListener('abort', abort);
      queue.remove(request);
      this.#images.release(request.images);
    }
  }
}

/** How a model is opened. */
export interface LoadModelOptions extends BatchOptions, OpenOptions {
  readonly device?: Device | undefined;
  readonly dtype?: DType | undefined;
  /** Leaves the weights in their files until they are used: see `LoadOptions`. */
  readonly mapped?: boolean | undefined;
  /** Takes the place of the model's chat template, by name or as Jinja text. */
  readonly template?: string | undefined;
  /** Gets `HubEvent`s while a model comes from the hub. */
  readonly log?: Log | undefined;
  /** Aborting it ends a download. */
  readonly signal?: AbortSignal | undefined;
}

/** Opens a checkpoint folder, or a model of the hub by its id, to be asked. Throws CheckpointError, ConfigError or HubError. */
export async function loadModel(
  nameOrPath: string,
  { device, dtype, mapped, template, adapter, base, resolve, log, signal, ...options }: LoadModelOptions = {},
): Promise<ChatModel> {
  const path = await resolveModel(nameOrPath, { log, signal });
  const parts = { adapter, base, resolve: resolve ?? resolveFrom({ log, signal }) };
  const { model } = await loadCheckpoint(path, { device, dtype, mapped, ...parts });
  return new ChatModel(model, await openProcessor(path, model, { ...parts, template }), options);
}

function withImages(messages: readonly InputMessage[], images: readonly ImageSource[]): readonly InputMessage[] {
  if (images.length === 0) return messages;
  const first = messages.findIndex(({ role }) => role === 'user');
  if (first < 0) throw new DataError(`${images.length} images, but no message of the user that they belong to`);
  const parts = images.map((image) => ({ type: 'image', image }) as const);
  return messages.map((message, i) => (i === first ? { ...message, content: [...parts, ...contentParts(message)] } : message));
}

async function last(pieces: AsyncGenerator<string, Answer>): Promise<Answer> {
  for (;;) {
    const step = await pieces.next();
    if (step.done) return step.value;
  }
}

async function outcome(index: number, answer: Promise<Answer>): Promise<Outcome> {
  try {
    return { index, answer: await answer };
  } catch (error) {
    if (error instanceof DataError) return { index, error };
    throw error;
  }
}

/** What is about to bring requests to a queue: some that are being prepared, and answers whose taking makes room for others. */
class Supply {
  #preparing = 0;
  #untaken = 0;
  #ended = false;
  #wake = (): void => {};

  add({ preparing = 0, untaken = 0 }: { preparing?: number; untaken?: number }): void {
    this.#preparing += preparing;
    this.#untaken += untaken;
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Settled at the next change; undefined when nothing is about to come. */
  coming(): Promise<void> | undefined {
    if (this.#ended || this.#preparing + this.#untaken === 0) return undefined;
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** The next request, or that there is none. */
type Coming = { readonly coming: IteratorResult<GenerateOptions, unknown> };

/** Waits no longer than until the signal; throws its reason. */
async function upcoming(source: Iterator<GenerateOptions> | AsyncIterator<GenerateOptions>, signal: AbortSignal): Promise<Coming> {
  let give = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    give = () => reject(signal.reason);
  });
  signal.addEventListener('abort', give, { once: true });
  try {
    return { coming: await Promise.race([source.next(), aborted]) };
  } finally {
    signal.removeEventListener('abort', give);
  }
}
