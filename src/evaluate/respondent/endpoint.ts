import { setMaxListeners } from 'node:events';
import { ConfigError, DataError } from '../../errors.ts';
import { contentParts, type ImageSource, type Message } from '../../processor/message.ts';
import { ChatServer, type ChatServerOptions, oneWord, ServerError } from '../chat-server.ts';
import { imageDataUrl } from './data-url.ts';
import type { Identity, Question, Respondent, RespondOptions, Response } from './respondent.ts';

/** To find out whether a model sees: a picture of one colour. */
const picture =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAACXBIWXMAAAPoAAAD6AG1e1JrAAAAO0lEQVRIiWMwSDhAU8QwakHCaBAdGE1FBqMZ7cBoUWEwWpomjFY4BqNVZsJoq+LAaMMrYbTpeGBQt64BqX1ATC6DsKoAAAAASUVORK5CYII=';

const aboutPicture: Question = {
  messages: [
    {
      role: 'user',
      content: [
        { type: 'image', image: picture },
        { type: 'text', text: oneWord },
      ],
    },
  ],
  maxNewTokens: 16,
};

/** Images remembered as data URLs: neighbouring questions are often about the same. */
const rememberedImages = 16;

/** A model behind an OpenAI-compatible server, which is sent images as `data:` URLs. */
export class Endpoint implements Respondent {
  readonly #server: ChatServer;
  readonly #images = new Map<ImageSource, Promise<string>>();

  constructor(options: ChatServerOptions) {
    this.#server = new ChatServer(options);
  }

  get identity(): Identity {
    const { model, baseUrl, served, takesTemperature } = this.#server;
    return {
      model,
      baseUrl,
      ...(served.length > 0 && { served: served.join(', ') }),
      ...(!takesTemperature && { temperature: 'default' }),
    };
  }

  /** Asks for one word, and for one about a picture where images will be shown. */
  async check({ images, weigh }: { readonly images: boolean; readonly weigh: boolean }, signal?: AbortSignal): Promise<void> {
    const { model, baseUrl, hasKey } = this.#server;
    if (weigh) {
      throw new ConfigError(`${model} is an endpoint, which does not say how likely it finds an answer`, {
        hint: 'leave out tasks that weigh choices, such as seed-bench-likelihood; seed-bench asks for the letter',
      });
    }
    try {
      await this.#server.check(signal);
      if (images) await this.#ask(aboutPicture, signal);
    } catch (cause) {
      if (cause instanceof DataError) {
        throw new ConfigError(`${model} at ${baseUrl} does not take a picture: ${cause.message}`, {
          hint: 'name a model that sees',
          cause,
        });
      }
      if (!(cause instanceof ServerError)) throw cause;
      throw new ConfigError(`${model} at ${baseUrl} does not answer: ${cause.message}`, {
        hint: hasKey ? 'check its name, address and key' : 'check --base-url; set TINYLLAVA_API_KEY or OPENAI_API_KEY if it wants a key',
        cause,
      });
    }
  }

  async *responses(
    questions: Iterable<Question> | AsyncIterable<Question>,
    { batchSize, signal }: RespondOptions,
  ): AsyncGenerator<Response, void> {
    const over = new AbortController();
    const running = AbortSignal.any(signal ? [signal, over.signal] : [over.signal]);
    // Every call that waits listens to it; Node warns of more than ten.
    setMaxListeners(0, running);
    const open = new Map<number, Promise<Response>>();
    const next = async (): Promise<Response> => {
      const response = await Promise.race(open.values());
      open.delete(response.index);
      return response;
    };
    let index = 0;
    try {
      for await (const question of questions) {
        open.set(index, this.#response(index, question, running));
        index += 1;
        if (open.size >= batchSize) yield await next();
      }
      while (open.size > 0) yield await next();
    } finally {
      over.abort();
      await Promise.allSettled(open.values());
    }
  }

  async #response(index: number, question: Question, signal: AbortSignal): Promise<Response> {
    try {
      return { index, answer: await this.#ask(question, signal) };
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      return { index, error: error.message };
    }
  }

  async #ask({ messages, maxNewTokens, stop }: Question, signal?: AbortSignal): Promise<string> {
    const sent = await Promise.all(messages.map((message) => this.#message(message)));
    const { text } = await this.#server.complete({ messages: sent, temperature: 0, maxTokens: maxNewTokens, stop }, signal);
    return text;
  }

  async #message(message: Message): Promise<object> {
    if (typeof message.content === 'string') return message;
    const parts = contentParts(message).map(async (part) =>
      part.type === 'text' ? part : { type: 'image_url', image_url: { url: await this.#dataUrl(part.image) } },
    );
    return { role: message.role, content: await Promise.all(parts) };
  }

  #dataUrl(source: ImageSource): Promise<string> {
    const known = this.#images.get(source) ?? imageDataUrl(source);
    // A map keeps its order: what is shown again moves to the end.
    this.#images.delete(source);
    this.#images.set(source, known);
    for (const oldest of this.#images.keys()) {
      if (this.#images.size <= rememberedImages) break;
      this.#images.delete(oldest);
    }
    return known;
  }
}
