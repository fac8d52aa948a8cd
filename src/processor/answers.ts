import { ConfigError } from '../errors.ts';
import { contentParts, type Message } from './message.ts';
import type { ChatTemplate } from './template.ts';

/** Where something begins and ends in a rendered conversation. */
export type Range = readonly [start: number, end: number];

// private-use characters around answers, for one rendering
const [before, after] = ['\uF8F2', '\uF8F3'];

/**
 * Finds the assistant's answers in a rendered conversation. An answer begins where the generation prompt ends, so that what generation is given is what
 * was trained on, and it ends after its end-of-turn token.
 */
export class AnswerFinder {
  readonly #template: ChatTemplate;
  readonly #endOfTurn: RegExp;
  #frame: { readonly lead: string; readonly tail: string } | undefined;

  /** `endOfTurn` matches every token that may end a turn. */
  constructor(template: ChatTemplate, endOfTurn: RegExp) {
    this.#template = template;
    this.#endOfTurn = endOfTurn;
  }

  /**
   * The answers in `whole`, which `messages` were rendered to, with a generation prompt after them unless `closed`.
   * Undefined when the template writes earlier turns differently once later ones are there.
   */
  find(messages: readonly Message[], whole: string, { closed }: { closed: boolean }): Range[] | undefined {
    const count = messages.filter(({ role }) => role === 'assistant').length;
    return (
      (count > 2 ? this.#atOnce(messages, whole, closed) : undefined) ??
      this.#oneByOne(messages, whole, closed) ??
      this.#promptByPrompt(messages, whole, closed)
    );
  }

  /** The definition: renders the conversation up to each answer, and up to its end. */
  #oneByOne(messages: readonly Message[], whole: string, closed: boolean): Range[] | undefined {
    const found: Range[] = [];
    for (const [i, { role }] of messages.entries()) {
      if (role !== 'assistant') continue;
      const start = this.#template.render(messages.slice(0, i), { generationPrompt: true }).text;
      const end = closed && i === messages.length - 1 ? whole : this.#template.render(messages.slice(0, i + 1)).text;
      if (!end.startsWith(start) || !whole.startsWith(end)) return undefined;
      found.push([start.length, start.length + this.#turnLength(end.slice(start.length))]);
    }
    return found;
  }

  /**
   * The same for long conversations in two renderings instead of two for each answer: one with marks around the answers, which must change nothing else,
   * and one up to the last answer. Undefined when something is unusual.
   */
  #atOnce(messages: readonly Message[], whole: string, closed: boolean): Range[] | undefined {
    this.#frame ??= this.#learnFrame();
    const { lead, tail } = this.#frame;
    const spoken = this.#spoken(messages, whole, closed);
    if (!spoken) return undefined;
    const found = spoken.map(([from, to]): Range => [from - lead.length, to + this.#turnLength(tail)]);
    const last = messages.findLastIndex(({ role }) => role === 'assistant');
    const prompt = this.#template.render(messages.slice(0, last), { generationPrompt: true }).text;
    const framed = found.every(([from, to]) => whole.startsWith(lead, from) && whole.startsWith(tail, to - this.#turnLength(tail)));
    const complete = found.length === messages.filter(({ role }) => role === 'assistant').length;
    return framed && complete && whole.startsWith(prompt) && found.at(-1)?.[0] === prompt.length ? found : undefined;
  }

  /**
   * For templates that write an answer otherwise once another follows, as Qwen3's, which keeps the place of thoughts in the last one only. The prompt of each
   * answer has to be there as it was; the answer is what stands there now.
   */
  #promptByPrompt(messages: readonly Message[], whole: string, closed: boolean): Range[] | undefined {
    this.#frame ??= this.#learnFrame();
    const { tail } = this.#frame;
    const spoken = this.#spoken(messages, whole, closed);
    const answers = messages.flatMap(({ role }, i) => (role === 'assistant' ? [i] : []));
    if (spoken?.length !== answers.length) return undefined;
    const found: Range[] = [];
    for (const [i, [from, to]] of spoken.entries()) {
      const prompt = this.#template.render(messages.slice(0, answers[i]), { generationPrompt: true }).text;
      if (!whole.startsWith(prompt) || prompt.length > from || !whole.startsWith(tail, to)) return undefined;
      found.push([prompt.length, to + this.#turnLength(tail)]);
    }
    return found;
  }

  /** Where the words of the answers stand in `whole`, by rendering them with marks around them; undefined when the marks change anything else. */
  #spoken(messages: readonly Message[], whole: string, closed: boolean): Range[] | undefined {
    const marks = messages.map(
      (message): Message => (message.role === 'assistant' ? { role: message.role, content: marked(message) } : message),
    );
    const pieces = this.#template.render(marks, { generationPrompt: !closed }).text.split(/([\uF8F2\uF8F3])/);
    if (pieces.filter((_, i) => i % 2 === 0).join('') !== whole) return undefined;
    const found: Range[] = [];
    let [at, start] = [0, 0];
    for (const piece of pieces) {
      if (piece === before) start = at;
      else if (piece === after) found.push([start, at]);
      else at += piece.length;
    }
    return found;
  }

  /** What the template writes between the generation prompt and an answer, and after an answer. */
  #learnFrame(): { lead: string; tail: string } {
    const question: Message = { role: 'user', content: 'a' };
    const prompt = this.#template.render([question], { generationPrompt: true }).text;
    const answered = this.#template.render([question, { role: 'assistant', content: `${before}b${after}` }]).text;
    const [lead = '', , tail = ''] = answered.slice(prompt.length).split(/[\uF8F2\uF8F3]/);
    return { lead, tail };
  }

  /** The length of an answer up to its end-of-turn token; the white space that a template puts after that is never generated. */
  #turnLength(answer: string): number {
    const last = [...answer.matchAll(this.#endOfTurn)].at(-1);
    const end = last ? last.index + last[0].length : answer.length;
    return answer.slice(end).trim() === '' ? end : answer.length;
  }
}

/** Says that the answers of a conversation cannot be found by rendering it up to them. */
export function answersNotFound(): ConfigError {
  return new ConfigError(
    'the chat template writes earlier turns differently once later ones are there, so what the assistant said cannot be found',
    {
      hint: 'mark it with {% generation %} … {% endgeneration %} in the template, or use a template that only appends',
    },
  );
}

function marked(message: Message): Message['content'] {
  return [{ type: 'text', text: before }, ...contentParts(message), { type: 'text', text: after }];
}
