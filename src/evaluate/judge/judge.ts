import { createHash, randomUUID } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { cacheFolder } from '../../cache-folder.ts';
import { ConfigError, TinyLlavaError } from '../../errors.ts';
import { makeFolder } from '../../make-folder.ts';
import { contentParts } from '../../processor/message.ts';
import { type ChatCall, ChatServer, type ChatServerOptions, ServerError } from '../chat-server.ts';
import type { JudgeCall } from './question.ts';

/** Which model judges, and how it is reached. */
export interface JudgeOptions extends ChatServerOptions {
  /** Folder of the replies, so that nothing is asked twice; in the cache folder unless said. */
  readonly cache?: string | undefined;
  /** Calls under way at a time. */
  readonly parallel?: number | undefined;
}

/** Who judged. */
export interface JudgeIdentity {
  readonly model: string;
  readonly baseUrl: string;
  /** The names under which the server itself says it answered. */
  readonly served: readonly string[];
  /** Said where the server does not let it be set: its grades then differ from one asking to the next. */
  readonly temperature?: 'default';
}

/** A language model behind an OpenAI-compatible server that says what answers are worth. */
export class Judge {
  readonly parallel: number;
  readonly #server: ChatServer;
  readonly #cache: string;
  /** Calls under way, by their names in the cache. */
  readonly #asking = new Map<string, Promise<string>>();

  constructor({ cache, parallel, ...server }: JudgeOptions) {
    this.parallel = parallel ?? 8;
    this.#server = new ChatServer(server);
    this.#cache = cache ?? join(cacheFolder(process.env), 'judge');
  }

  /** Who judges; `served` fills as replies come. */
  get identity(): JudgeIdentity {
    const { model, baseUrl, served, takesTemperature } = this.#server;
    return { model, baseUrl, served, ...(!takesTemperature && { temperature: 'default' }) };
  }

  /** Asks for one word, so that a wrong key, name or address is found before any work. Throws ConfigError, or the signal's reason. */
  async check(signal?: AbortSignal): Promise<void> {
    try {
      await this.#server.check(signal);
    } catch (cause) {
      if (!(cause instanceof ServerError)) throw cause;
      const { model, baseUrl, hasKey } = this.#server;
      throw new ConfigError(`the judge ${model} at ${baseUrl} does not answer: ${cause.message}`, {
        hint: hasKey
          ? 'check its name, address and key'
          : 'set TINYLLAVA_JUDGE_KEY or OPENAI_API_KEY if it wants a key, or name another with --judge-url',
        cause,
      });
    }
  }

  /**
   * The judge's reply, from the cache where it has been asked the very same before. Throws DataError for a call that the server does not take, ConfigError when
   * it does not answer.
   */
  reply(call: JudgeCall, signal?: AbortSignal): Promise<string> {
    const { model, baseUrl } = this.#server;
    const sent = textCall(call);
    const { messages, temperature, maxTokens } = sent;
    const name = createHash('sha256')
      .update(JSON.stringify([baseUrl, model, { model, messages, temperature, max_tokens: maxTokens }]))
      .digest('hex');
    const asking = this.#asking.get(name) ?? this.#cached(name, sent, signal).finally(() => this.#asking.delete(name));
    this.#asking.set(name, asking);
    return asking;
  }

  async #cached(name: string, call: ChatCall, signal: AbortSignal | undefined): Promise<string> {
    const folder = join(this.#cache, name.slice(0, 2));
    const path = join(folder, `${name}.json`);
    const known = await readFile(path, 'utf8').catch(() => undefined);
    const kept = known === undefined ? undefined : remembered(known);
    if (kept) {
      this.#server.note(kept.served);
      return kept.text;
    }
    const { text, served } = await this.#server.complete(call, signal);
    // Other processes may have asked the same meanwhile.
    const draft = `${path}.${randomUUID()}.part`;
    try {
      makeFolder(folder);
      await writeFile(draft, JSON.stringify({ text, served }));
      await rename(draft, path);
    } catch {
      // A full disk must not cost the reply, which may have been paid for.
      await rm(draft, { force: true }).catch(() => {});
    }
    return text;
  }
}

function remembered(text: string): { text: string; served: string | undefined } | undefined {
  try {
    return z.object({ text: z.string(), served: z.string().optional() }).parse(JSON.parse(text)) as {
      text: string;
      served: string | undefined;
    };
  } catch {
    // A file that was cut off is asked for again.
    return undefined;
  }
}

/** The call as the server gets it. */
function textCall({ messages, ...limits }: JudgeCall): ChatCall {
  const texts = messages.map((message) => ({
    role: message.role,
    content: contentParts(message)
      .map((part) => (part.type === 'text' ? part.text : refuse()))
      .join(''),
  }));
  return { messages: texts, ...limits };
}

function refuse(): never {
  throw new TinyLlavaError('judges are sent text only');
}
