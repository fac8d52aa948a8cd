import { ConfigError } from '../errors.ts';
import { guardFor } from './guard.ts';
import type { Message } from './message.ts';
import type { ChatTemplate, Rendered } from './template.ts';
import type { AddedToken } from './tokenizer-files.ts';

/** A stretch of a rendered conversation that becomes tokens on its own: plain text, or exactly one special token. */
export interface Segment {
  readonly text: string;
  readonly special: boolean;
  /** Whether its tokens are learned, i.e. whether the assistant said it (the end of the turn included). */
  readonly supervised: boolean;
}

/** What a conversation is cut by; `special` are the special tokens of the tokenizer, longest first. */
export interface SegmenterOptions {
  readonly special: ReadonlyMap<string, AddedToken>;
  readonly imageToken: string;
}

/**
 * Cuts conversations into segments. The cuts are where an answer begins (the end of the generation prompt), where it ends, and around special tokens;
 * each segment is tokenised by itself, so that the ids of a prompt are a prefix of the ids trained on, whatever merges a tokenizer has.
 */
export class Segmenter {
  readonly template: ChatTemplate;
  readonly #special: ReadonlyMap<string, AddedToken>;
  readonly #anySpecial: RegExp;
  readonly #endOfTurn: RegExp;

  constructor(template: ChatTemplate, { special, imageToken }: SegmenterOptions) {
    this.template = template;
    this.#special = special;
    this.#anySpecial = anyOf([...special.keys()]);
    this.#endOfTurn = anyOf([...special.keys()].filter((token) => token !== imageToken));
  }

  /**
   * The segments of a conversation; `train` renders it with its last answer, otherwise it ends where the next answer begins.
   * Answers are found by rendering the conversation up to them. Throws ConfigError when the template writes earlier turns differently later on.
   */
  cut(messages: readonly Message[], { train }: { train: boolean }): Segment[] {
    const guard = guardFor(messages, this.#anySpecial);
    const hidden = guard.hide(messages);
    const whole = this.template.render(hidden, { generationPrompt: !train });
    const answers = this.#answers(hidden, whole.text, train);
    const supervised = !train ? [] : this.template.marksGenerated ? whole.generated : answers;
    return this.#split(whole.text, [...answers, ...supervised].flat(), supervised).map((segment) => ({
      ...segment,
      text: guard.show(segment.text),
    }));
  }

  /** The segments of text that no template made; nothing in it is guarded or supervised. */
  cutText(text: string): Segment[] {
    return this.#split(text, [], []);
  }

  /** The special tokens that the template ends an answer with. */
  endOfTurn(): string[] {
    const segments = this.cut(
      [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
      ],
      { train: true },
    );
    return segments.filter(({ special, supervised }) => special && supervised).map(({ text }) => text);
  }

  #split(whole: string, at: readonly number[], supervised: Rendered['generated']): Segment[] {
    const cuts = new Set(at);
    for (const match of whole.matchAll(this.#anySpecial)) cuts.add(match.index).add(match.index + match[0].length);
    const ends = [...cuts.add(whole.length)].sort((a, b) => a - b);
    const segments = ends.map((end, i): Segment => {
      const start = ends[i - 1] ?? 0;
      const text = whole.slice(start, end);
      return { text, special: this.#special.has(text), supervised: supervised.some(([from, to]) => from <= start && end <= to) };
    });
    return swallowSpace(
      segments.filter(({ text }) => text !== ''),
      this.#special,
    );
  }

  /** Where each answer begins and ends in the rendered text. */
  #answers(messages: readonly Message[], whole: string, train: boolean): [number, number][] {
    const answers: [number, number][] = [];
    for (const [i, { role }] of messages.entries()) {
      if (role !== 'assistant') continue;
      const before = this.template.render(messages.slice(0, i), { generationPrompt: true }).text;
      const after = train && i === messages.length - 1 ? whole : this.template.render(messages.slice(0, i + 1)).text;
      if (after.startsWith(before) && whole.startsWith(after)) {
        answers.push([before.length, before.length + turnLength(after.slice(before.length), this.#endOfTurn)]);
      } else if (train && !this.template.marksGenerated) {
        throw new ConfigError(
          `the chat template writes what precedes message ${i + 1} differently once message ${i + 1} or a later one is there, so this answer cannot be found`,
          {
            hint: 'mark what the assistant says with {% generation %} … {% endgeneration %} in the template, or use a template that only appends',
          },
        );
      }
    }
    return answers;
  }
}

/** The length of an answer up to its end-of-turn token; the white space that a template puts after that is never generated. */
function turnLength(answer: string, endOfTurn: RegExp): number {
  const last = [...answer.matchAll(endOfTurn)].at(-1);
  const end = last ? last.index + last[0].length : answer.length;
  return answer.slice(end).trim() === '' ? end : answer.length;
}

function swallowSpace(cut: readonly Segment[], special: ReadonlyMap<string, AddedToken>): Segment[] {
  return cut.map((segment, i) => {
    if (segment.special) return segment;
    let { text } = segment;
    if (special.get(cut[i - 1]?.text ?? '')?.rstrip) text = text.trimStart();
    if (special.get(cut[i + 1]?.text ?? '')?.lstrip) text = text.trimEnd();
    return { ...segment, text };
  });
}

function anyOf(tokens: readonly string[]): RegExp {
  const escaped = tokens.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return escaped.length > 0 ? new RegExp(escaped.join('|'), 'g') : /(?!)/g;
}
