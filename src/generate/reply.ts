import { TextStream } from '../processor/text-stream.ts';
import type { Tokenizer } from '../processor/tokenizer.ts';
import { type FinishReason, StopStrings } from './stop.ts';

/** A finished answer. */
export interface Answer {
  readonly text: string;
  readonly finishReason: FinishReason;
  /** `sharedTokens` of the prompt had been computed for another. */
  readonly usage: { readonly promptTokens: number; readonly sharedTokens: number; readonly completionTokens: number };
  /** Every token that was chosen, the one that ended the answer included. */
  readonly ids: readonly number[];
}

/** When an answer ends. */
export interface ReplyLimits {
  readonly promptTokens: number;
  readonly maxNewTokens: number;
  readonly stopIds: ReadonlySet<number>;
  readonly stop: readonly string[];
}

/** An answer as it grows: tokens come in, text goes out to whoever reads along. */
export class Reply {
  readonly #limits: ReplyLimits;
  readonly #text: TextStream;
  readonly #stops: StopStrings;
  readonly #ids: number[] = [];
  #sharedTokens = 0;
  #written = '';
  #read = 0;
  #finishReason: FinishReason | undefined;
  #failure: { readonly reason: unknown } | undefined;
  #wake = (): void => {};

  constructor(tokenizer: Tokenizer, limits: ReplyLimits) {
    this.#limits = limits;
    this.#text = new TextStream(tokenizer);
    this.#stops = new StopStrings(limits.stop);
    if (limits.maxNewTokens === 0) this.#finishReason = 'length';
  }

  /** Whether no more tokens are wanted. */
  get over(): boolean {
    return this.#finishReason !== undefined || this.#failure !== undefined;
  }

  /** Takes note that the prompt is being computed. */
  begin(sharedTokens: number): void {
    this.#sharedTokens = sharedTokens;
  }

  /** Takes the next token; false when the answer is over. */
  take(id: number): boolean {
    this.#ids.push(id);
    if (this.#limits.stopIds.has(id)) this.#finish('stop');
    else {
      this.#written += this.#stops.push(this.#text.push(id));
      if (this.#stops.found !== undefined) this.#finishReason = 'stop';
      else if (this.#ids.length >= this.#limits.maxNewTokens) this.#finish('length');
    }
    this.#wake();
    return !this.over;
  }

  /** Ends the answer by an error, which readers get. */
  fail(reason: unknown): void {
    this.#failure = { reason };
    this.#wake();
  }

  /** The text as it comes, never half a character; returns the answer, or throws what `fail` was given. */
  async *pieces(): AsyncGenerator<string, Answer> {
    for (;;) {
      if (this.#failure) throw this.#failure.reason;
      const piece = this.#written.slice(this.#read);
      this.#read = this.#written.length;
      if (piece !== '') yield piece;
      else if (this.#finishReason !== undefined) return this.#answer(this.#finishReason);
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #finish(reason: FinishReason): void {
    this.#written += this.#stops.push(this.#text.end());
    this.#written += this.#stops.end();
    this.#finishReason = this.#stops.found === undefined ? reason : 'stop';
  }

  #answer(finishReason: FinishReason): Answer {
    const usage = { promptTokens: this.#limits.promptTokens, sharedTokens: this.#sharedTokens, completionTokens: this.#ids.length };
    return { text: this.#written, finishReason, usage, ids: this.#ids };
  }
}
