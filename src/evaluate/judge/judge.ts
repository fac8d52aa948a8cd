import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { z } from 'zod';
import { cacheFolder } from '../../cache-folder.ts';
import { ConfigError, TinyLlavaError } from '../../errors.ts';
import { contentParts } from '../../processor/message.ts';
import type { JudgeCall } from './question.ts';

/** Which model judges, and how it is reached. */
export interface JudgeOptions {
  readonly model: string;
  /** Where an OpenAI-compatible server answers, up to and with `/v1`. */
  readonly baseUrl?: string | undefined;
  /** Sent as the bearer token. */
  readonly key?: string | undefined;
  /** Folder of the replies, so that nothing is asked twice; in the cache folder unless said. */
  readonly cache?: string | undefined;
  /** Calls under way at a time. */
  readonly parallel?: number | undefined;
  /** Tries of a call that the server does not answer. */
  readonly tries?: number | undefined;
  /** Wait before the second try; it doubles with each. */
  readonly waitMs?: number | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Who judged. */
export interface JudgeIdentity {
  readonly model: string;
  readonly baseUrl: string;
  /** The names under which the server itself says it answered. */
  readonly served: readonly string[];
}

const Reply = z.looseObject({
  model: z.string().optional(),
  choices: z.array(z.looseObject({ message: z.looseObject({ content: z.string().nullable() }) })).min(1),
});

/** A language model behind an OpenAI-compatible server that says what answers are worth. */
export class Judge {
  readonly parallel: number;
  readonly #options: { readonly [Name in Exclude<keyof JudgeOptions, 'key' | 'parallel'>]-?: Exclude<JudgeOptions[Name], undefined> } & {
    readonly key: string | undefined;
  };
  readonly #served = new Set<string>();

  constructor(options: JudgeOptions) {
    const { model, baseUrl, key, cache, parallel, tries, waitMs, timeoutMs } = options;
    this.parallel = parallel ?? 8;
    this.#options = {
      model,
      baseUrl: (baseUrl ?? 'https://api.openai.com/v1').replace(/\/+$/, ''),
      key,
      cache: cache ?? join(cacheFolder(process.env), 'judge'),
      tries: tries ?? 5,
      waitMs: waitMs ?? 1000,
      timeoutMs: timeoutMs ?? 120_000,
    };
  }

  /** Who judges; `served` fills as replies come. */
  get identity(): JudgeIdentity {
    const { model, baseUrl } = this.#options;
    return { model, baseUrl, served: [...this.#served].sort() };
  }

  /** Asks for one word, so that a wrong key, name or address is found before any work. Throws ConfigError. */
  async check(): Promise<void> {
    try {
      await this.#post({ messages: [{ role: 'user', content: 'Say yes.' }], temperature: 0, maxTokens: 3 }, undefined);
    } catch (cause) {
      const { model, baseUrl, key } = this.#options;
      throw new ConfigError(`the judge ${model} at ${baseUrl} does not answer: ${(cause as Error).message}`, {
        hint:
          key === undefined
            ? 'set TINYLLAVA_JUDGE_KEY or OPENAI_API_KEY if it wants a key, or name another with --judge-url'
            : 'check its name, address and key',
        cause,
      });
    }
  }

  /** The judge's reply, from the cache where it has been asked the very same before. Throws ConfigError when the server does not answer. */
  async reply(call: JudgeCall, signal?: AbortSignal): Promise<string> {
    const { cache, model, baseUrl } = this.#options;
    const name = createHash('sha256')
      .update(JSON.stringify([baseUrl, model, body(call, model)]))
      .digest('hex');
    const path = join(cache, name.slice(0, 2), `${name}.json`);
    const known = await readFile(path, 'utf8').catch(() => undefined);
    const kept = known === undefined ? undefined : remembered(known);
    if (kept) {
      if (kept.served !== undefined) this.#served.add(kept.served);
      return kept.text;
    }
    const { text, served } = await this.#post(call, signal);
    await mkdir(join(cache, name.slice(0, 2)), { recursive: true });
    const draft = `${path}.${process.pid}.part`;
    await writeFile(draft, JSON.stringify({ text, served }));
    await rename(draft, path);
    return text;
  }

  async #post(call: JudgeCall, signal: AbortSignal | undefined): Promise<{ text: string; served: string | undefined }> {
    const { tries, waitMs } = this.#options;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      const outcome = await this.#once(call, signal);
      if ('text' in outcome) {
        if (outcome.served !== undefined) this.#served.add(outcome.served);
        return outcome;
      }
      if (!outcome.again || attempt >= tries) throw new ConfigError(`${outcome.reason}${attempt > 1 ? ` (tried ${attempt} times)` : ''}`);
      await wait(outcome.waitMs ?? waitMs * 2 ** (attempt - 1), undefined, signal ? { signal } : {});
    }
  }

  async #once(
    call: JudgeCall,
    signal: AbortSignal | undefined,
  ): Promise<{ text: string; served: string | undefined } | { reason: string; again: boolean; waitMs?: number }> {
    const { baseUrl, key, model, timeoutMs } = this.#options;
    const limit = AbortSignal.timeout(timeoutMs);
    let response: Response;
    let content: string;
    try {
      response = await fetch(`${baseUrl}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(key !== undefined && { authorization: `Bearer ${key}` }) },
        body: JSON.stringify(body(call, model)),
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
      content = await response.text();
    } catch (error) {
      signal?.throwIfAborted();
      const { message, cause } = error as Error;
      return { reason: cause instanceof Error && cause.message !== '' ? cause.message : message, again: true };
    }
    if (!response.ok) {
      const after = Number(response.headers.get('retry-after'));
      const again = response.status === 408 || response.status === 429 || response.status >= 500;
      return { reason: `HTTP ${response.status} ${content.slice(0, 200)}`.trim(), again, ...(after > 0 && { waitMs: after * 1000 }) };
    }
    return spoken(content);
  }
}

function spoken(content: string): { text: string; served: string | undefined } | { reason: string; again: boolean } {
  try {
    const reply = Reply.safeParse(JSON.parse(content));
    if (reply.success) return { text: reply.data.choices[0]?.message.content ?? '', served: reply.data.model };
  } catch {
    // Said below.
  }
  return { reason: `not a chat completion: ${content.slice(0, 200)}`, again: false };
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

/** The request as the server gets it. */
function body({ messages, temperature, maxTokens }: JudgeCall, model: string): unknown {
  const texts = messages.map((message) => ({
    role: message.role,
    content: contentParts(message)
      .map((part) => (part.type === 'text' ? part.text : refuse()))
      .join(''),
  }));
  return { model, messages: texts, temperature, max_tokens: maxTokens };
}

function refuse(): never {
  throw new TinyLlavaError('judges are sent text only');
}
