import type { Tokenizer } from './tokenizer.ts';

/**
 * Decodes a growing answer piece by piece: the pieces joined are `tokenizer.decode` of all the ids, and none ends inside a character.
 * A piece is held back while the last bytes are an unfinished UTF-8 sequence.
 */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  #ids: number[] = [];
  /** Ids before this one have left for good; up to the next mark they are context for decoding what follows. */
  #context = 0;
  #given = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** The text that is certain after one more id; often one word, sometimes ''. */
  push(id: number): string {
    this.#ids.push(id);
    const before = this.#decode(this.#context, this.#given);
    const now = this.#decode(this.#context, this.#ids.length);
    if (now.length <= before.length || now.endsWith('\uFFFD')) return '';
    this.#context = this.#given;
    this.#given = this.#ids.length;
    return now.slice(before.length);
  }

  /** What was held back, with `\uFFFD` for bytes that never became a character. */
  end(): string {
    const rest = this.#decode(this.#context, this.#ids.length).slice(this.#decode(this.#context, this.#given).length);
    this.#ids = [];
    this.#context = 0;
    this.#given = 0;
    return rest;
  }

  #decode(from: number, to: number): string {
    return this.#tokenizer.decode(this.#ids.slice(from, to));
  }
}
