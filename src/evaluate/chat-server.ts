import { setTimeout as wait } from 'node:timers/promises';
import type { EnvHttpProxyAgent } from 'undici';
import { z } from 'zod';
import { ConfigError, DataError } from '../errors.ts';

/** An OpenAI-compatible server, and how patient to be with it. */
export interface ChatServerOptions {
  readonly model: string;
  /** Where it answers, up to and with `/v1`; OpenAI's unless given. */
  readonly baseUrl?: string | undefined;
  /** Sent as the bearer token. */
  readonly key?: string | undefined;
  /** Tries of a call that the server does not answer; 5 unless given. */
  readonly tries?: number | undefined;
  /** Wait before the second try, 1000 unless given; it doubles with each. */
  readonly waitMs?: number | undefined;
  /** How long one try may take; 120,000 unless given. */
  readonly timeoutMs?: number | undefined;
}

/** What a server is asked for: the words behind these messages, which have OpenAI's form. */
export interface ChatCall {
  readonly messages: readonly object[];
  readonly temperature: number;
  readonly maxTokens: number;
  readonly stop?: readonly string[] | undefined;
}

/** What a server said, and the name under which it says that it answered. */
export interface ServerReply {
  readonly text: string;
  readonly served: string | undefined;
}

/** A server that answers nothing, whatever it is asked. */
export class ServerError extends ConfigError {}

/** The shortest call there is. */
export const oneWord = 'Say yes.';

const wordCall: ChatCall = { messages: [{ role: 'user', content: oneWord }], temperature: 0, maxTokens: 16 };

// Models that think answer in parts, those that were cut off in thought without any.
const Content = z.union([z.string(), z.array(z.looseObject({ text: z.string().default('') }))]).nullish();
const Reply = z.looseObject({
  model: z.string().nullish(),
  choices: z.array(z.looseObject({ message: z.looseObject({ content: Content }) })).min(1),
});

/** Why there is no answer. Without a status nothing came back, or nothing that is a chat completion. */
interface Failure {
  readonly reason: string;
  readonly status?: number;
  /** All that came back. */
  readonly content?: string;
  readonly waitMs?: number;
}

/** Statuses that refuse one call, say for its length. */
const refusals = new Set([400, 413, 415, 422]);

/** Whether the server may be broken or away, or the call too much for it. */
const isSilence = ({ status }: Failure): boolean => status === undefined || status === 408 || status >= 500;

/** A language model behind an OpenAI-compatible server. */
export class ChatServer {
  readonly model: string;
  readonly baseUrl: string;
  readonly #key: string | undefined;
  readonly #tries: number;
  readonly #waitMs: number;
  readonly #timeoutMs: number;
  readonly #served = new Set<string>();
  /** Calls that were answered. */
  #answered = 0;
  #agent: EnvHttpProxyAgent | undefined;
  /** What comes of a word that is asked for at the moment. */
  #word: Promise<ServerReply | Failure> | undefined;
  /** What the server calls the most tokens of an answer; newer models of OpenAI's have another word. */
  #limitName: 'max_tokens' | 'max_completion_tokens' = 'max_tokens';
  #takesTemperature = true;

  constructor({ model, baseUrl, key, tries, waitMs, timeoutMs }: ChatServerOptions) {
    this.model = model;
    this.baseUrl = (baseUrl ?? 'https://api.openai.com/v1').replace(/\/+$/, '');
    this.#key = key;
    this.#tries = tries ?? 5;
    this.#waitMs = waitMs ?? 1000;
    this.#timeoutMs = timeoutMs ?? 120_000;
  }

  get hasKey(): boolean {
    return this.#key !== undefined;
  }

  /** Whether answers have the temperature that they are asked for; `check` finds out. */
  get takesTemperature(): boolean {
    return this.#takesTemperature;
  }

  /** The names under which the server says that it answered, so far. */
  get served(): string[] {
    return [...this.#served].sort();
  }

  /** Takes note of a name from an earlier reply. */
  note(served: string | undefined): void {
    if (served !== undefined) this.#served.add(served);
  }

  /** Asks for one word, and finds out in which words the server wants to be asked. Throws ServerError, or the signal's reason. */
  async check(signal?: AbortSignal): Promise<void> {
    for (;;) {
      const outcome = await this.#tried(wordCall, signal);
      if ('text' in outcome) return;
      if (!refusals.has(outcome.status ?? 0) || !this.#reworded(outcome)) throw new ServerError(outcome.reason);
    }
  }

  /**
   * Asks for a chat completion, again and again with longer waits while the server is busy or away. Throws DataError for a call that the server refuses, or
   * leaves without an answer while it answers another; ServerError where it answers none; or the signal's reason.
   */
  async complete(call: ChatCall, signal?: AbortSignal): Promise<ServerReply> {
    let outcome = await this.#tried(call, signal);
    if ('reason' in outcome && isSilence(outcome)) {
      // A word tells whether it is the server or the call, for all calls that wait for it; one that was only away for a while is asked once more.
      this.#word ??= this.#tried(wordCall, signal, 2).finally(() => {
        this.#word = undefined;
      });
      if ('reason' in (await this.#word)) throw new ServerError(outcome.reason);
      outcome = await this.#tried(call, signal, 1);
    }
    if ('text' in outcome) return outcome;
    const ofCall = isSilence(outcome) || refusals.has(outcome.status ?? 0);
    throw new (ofCall ? DataError : ServerError)(outcome.reason);
  }

  /**
   * Asks again while the server is busy, or leaves fewer than so many tries without an answer. A server that answers other calls meanwhile only wants them
   * slower, so that a try is not counted.
   */
  async #tried(call: ChatCall, signal: AbortSignal | undefined, silences = this.#tries): Promise<ServerReply | Failure> {
    let answered = this.#answered;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const outcome = await this.#once(call, signal);
      if ('text' in outcome) {
        this.#answered += 1;
        return outcome;
      }
      if (outcome.status === 429 && this.#answered > answered) attempt = 1;
      answered = this.#answered;
      const tries = isSilence(outcome) ? silences : outcome.status === 429 ? this.#tries : 1;
      if (attempt >= tries) return attempt === 1 ? outcome : { ...outcome, reason: `${outcome.reason} (tried ${attempt} times)` };
      const waitMs = outcome.waitMs ?? this.#waitMs * 2 ** (attempt - 1);
      await wait(waitMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }

  async #once(call: ChatCall, signal: AbortSignal | undefined): Promise<ServerReply | Failure> {
    // Loaded when needed. The `fetch` of Node gives up after five minutes, whatever its signal says, and that of Node 20 knows no proxy.
    const { EnvHttpProxyAgent, fetch } = await import('undici');
    this.#agent ??= new EnvHttpProxyAgent({ headersTimeout: 0, bodyTimeout: 0 });
    const limit = AbortSignal.timeout(this.#timeoutMs);
    let response: Awaited<ReturnType<typeof fetch>>;
    let content: string;
    try {
      response = await fetch(`${this.baseUrl}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(this.#key !== undefined && { authorization: `Bearer ${this.#key}` }) },
        body: JSON.stringify(this.#body(call)),
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
        dispatcher: this.#agent,
      });
      content = await response.text();
    } catch (error) {
      signal?.throwIfAborted();
      if (limit.aborted) return { reason: `no answer within ${this.#timeoutMs / 1000} s` };
      const { message, cause } = error as Error;
      return { reason: cause instanceof Error && cause.message !== '' ? cause.message : message };
    }
    const moved = response.redirected ? `; it sends calls on to ${response.url}: name that address, up to /v1` : '';
    if (response.ok) return this.#spoken(content, moved);
    const after = Number(response.headers.get('retry-after'));
    const { status } = response;
    return {
      reason: `${`HTTP ${status} ${content.slice(0, 200)}`.trim()}${moved}`,
      status,
      content,
      ...(after > 0 && { waitMs: after * 1000 }),
    };
  }

  #body({ messages, temperature, maxTokens, stop = [] }: ChatCall): object {
    return {
      model: this.model,
      messages,
      ...(this.#takesTemperature && { temperature }),
      [this.#limitName]: maxTokens,
      ...(stop.length > 0 && { stop }),
    };
  }

  /** Learns other words from a refusal; false where it is about none. */
  #reworded({ content = '' }: Failure): boolean {
    if (this.#limitName === 'max_tokens' && content.includes('max_completion_tokens')) this.#limitName = 'max_completion_tokens';
    else if (this.#takesTemperature && content.includes('temperature')) this.#takesTemperature = false;
    else return false;
    return true;
  }

  #spoken(text: string, moved: string): ServerReply | Failure {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      // Said below.
    }
    const reply = Reply.safeParse(value);
    if (!reply.success) return { reason: `not a chat completion: ${text.slice(0, 200)}${moved}` };
    const { model, choices } = reply.data;
    const content = choices[0]?.message.content ?? '';
    this.note(model ?? undefined);
    return { text: typeof content === 'string' ? content : content.map((part) => part.text).join(''), served: model ?? undefined };
  }
}
