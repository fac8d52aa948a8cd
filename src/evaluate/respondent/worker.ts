import { TinyLlavaError } from '../../errors.ts';
import type { ChatModel } from '../../generate/generate.ts';
import { ModelRespondent } from './model.ts';
import type { Said, Sent } from './processes.ts';
import type { Question } from './respondent.ts';

/** Where a process hears and speaks. */
interface Channel {
  readonly send: (said: Said) => void;
  readonly hear: (listener: (sent: Sent) => void) => void;
}

/** Answers what comes through the channel until the process ends. Never returns; throws what would befall every question. */
export async function serveQuestions(model: ChatModel, { send, hear }: Channel, { batchSize }: { batchSize: number }): Promise<void> {
  const respondent = new ModelRespondent(model);
  const [written, weighed] = [new Inbox(), new Inbox()];
  hear((sent) => (sent.question.choices ? weighed : written).put(sent));
  send({ identity: respondent.identity });
  const serve = async (inbox: Inbox, weigh: boolean): Promise<void> => {
    for await (const response of respondent.responses(inbox.questions(), { batchSize, weigh })) {
      const { run, index } = inbox.origin(response.index);
      send({ run, response: { ...response, index } });
    }
  };
  await Promise.all([serve(written, false), serve(weighed, true)]);
}

/** What befell a process, for the one that started it. */
export function failureOf(error: unknown): Said {
  if (error instanceof TinyLlavaError) return { failure: { message: error.message, hint: error.hint } };
  return { failure: { message: error instanceof Error ? (error.stack ?? error.message) : String(error), hint: undefined } };
}

/** Questions that have come and are not asked yet, and where those that are asked came from. */
class Inbox {
  readonly #waiting: Sent[] = [];
  readonly #origins = new Map<number, { readonly run: number; readonly index: number }>();
  #asked = 0;
  #wake = (): void => {};

  put(sent: Sent): void {
    this.#waiting.push(sent);
    this.#wake();
  }

  /** Where the question came from that was asked as this number; it is then forgotten. */
  origin(number: number): { readonly run: number; readonly index: number } {
    const origin = this.#origins.get(number) ?? { run: -1, index: number };
    this.#origins.delete(number);
    return origin;
  }

  async *questions(): AsyncGenerator<Question> {
    for (;;) {
      const sent = this.#waiting.shift();
      if (sent) {
        this.#origins.set(this.#asked, sent);
        this.#asked += 1;
        yield sent.question;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
