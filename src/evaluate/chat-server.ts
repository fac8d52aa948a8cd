import { setTimeout as wait } from 'node:timers/promises';
import { z } from 'zod';
import { ConfigError } from '../errors.ts';

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
  /** 120,000 unless given. */
  readonly timeoutMs?: number | undefined;
}

/** What a server said, and the name under which it says that it answered. */
export interface ServerReply {
  readonly text: string;
  readonly served: string | undefined;
}

/** A call that a server refused or did not answer. */
export class ServerError extends ConfigError {
  /** The HTTP status; undefined where there was no answer, or none that is a chat completion. */
  readonly status: number | undefined;

  constructor(message: string, status: number | undefined) {
    super(message);
    this.status = status;
  }
}

const Reply = z.looseObject({
  model: z.string().optional(),
  choices: z.array(z.looseObject({ message: z.looseObject({ content: z.string().nullable() }) })).min(1),
});

type Outcome = ServerReply | { readonly reason: string; readonly status?: number; readonly again: boolean; readonly waitMs?: number };

/** A language model behind an OpenAI-compatible server. */
export class ChatServer {
  readonly model: string;
  readonly baseUrl: string;
  readonly #key: string | undefined;
  readonly #tries: number;
  readonly #waitMs: number;
  readonly #timeoutMs: number;
  readonly #served = new Set<string>();

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

  /** The names under which the server says that it answered, so far. */
  get served(): string[] {
    return [...this.#served].sort();
  }

  /** Takes note of a name from an earlier reply. */
  note(served: string | undefined): void {
    if (served !== undefined) this.#served.add(served);
  }

  /** Asks for a chat completion, again and again with longer waits while the server is busy or away. Throws ServerError, or the signal's reason. */
  async complete(body: object, signal?: AbortSignal): Promise<ServerReply> {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const outcome = await this.#once(body, signal);
      if ('text' in outcome) {
        this.note(outcome.served);
        return outcome;
      }
      if (!outcome.again || attempt >= this.#tries) {
        throw new ServerError(`${outcome.reason}${attempt > 1 ? ` (tried ${attempt} times)` : ''}`, outcome.status);
      }
      await wait(outcome.waitMs ?? this.#waitMs * 2 ** (attempt - 1), undefined, signal ? { signal } : {});
    }
  }

  async #once(body: object, signal: AbortSignal | undefined): Promise<Outcome> {
    const limit = AbortSignal.timeout(this.#timeoutMs);
    let response: Response;
    let content: string;
    try {
      response = await fetch(`${this.baseUrl}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(this.#key !== undefined && { authorization: `Bearer ${this.#key}` }) },
        body: JSON.stringify({ model: this.model, ...body }),
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
      content = await response.text();
    } catch (error) {
      signal?.throwIfAborted();
      const { message, cause } = error as Error;
      return { reason: cause instanceof Error && cause.message !== '' ? cause.message : message, again: true };
    }
    if (response.ok) return spoken(content);
    const { status } = response;
    const after = Number(response.headers.get('retry-after'));
    const again = status === 408 || status === 429 || status >= 500;
    return { reason: `HTTP ${status} ${content.slice(0, 200)}`.trim(), status, again, ...(after > 0 && { waitMs: after * 1000 }) };
  }
}

function spoken(content: string): Outcome {
  try {
    const reply = Reply.safeParse(JSON.parse(content));
    if (reply.success) return { text: reply.data.choices[0]?.message.content ?? '', served: reply.data.model };
  } catch {
    // Said below.
  }
  return { reason: `not a chat completion: ${content.slice(0, 200)}`, again: false };
}
