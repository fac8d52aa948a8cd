/** Why an answer ended: the model ended it (or a stop string did), or it was as long as it may be. */
export type FinishReason = 'stop' | 'length';

/**
 * Ends a streamed text before the first of the stop strings, which may lie across pieces: what could still become one is held back.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  #found: string | undefined;

  constructor(stops: readonly string[] = []) {
    this.#stops = stops.filter((stop) => stop !== '');
  }

  /** The stop string that ended the text. */
  get found(): string | undefined {
    return this.#found;
  }

  /** The text that is certain after one more piece; '' once a stop string was found. */
  push(piece: string): string {
    if (this.#found !== undefined) return '';
    const text = this.#held + piece;
    const hits = this.#stops.flatMap((stop) => (text.includes(stop) ? [{ stop, at: text.indexOf(stop) }] : []));
    const first = hits.reduce<(typeof hits)[number] | undefined>((best, hit) => (best && best.at <= hit.at ? best : hit), undefined);
    if (first) {
      this.#found = first.stop;
      this.#held = '';
      return text.slice(0, first.at);
    }
    const end = text.length - this.#unfinished(text);
    this.#held = text.slice(end);
    return text.slice(0, end);
  }

  /** What was held back, once no more text comes. */
  end(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #unfinished(text: string): number {
    const longest = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const end = text.slice(-length);
      if (this.#stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}
