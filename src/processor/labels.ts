import { AnswerFinder, answersNotFound } from './answers.ts';
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
  readonly #answers: AnswerFinder;

  constructor(template: ChatTemplate, { special, imageToken }: SegmenterOptions) {
    this.template = template;
    this.#special = special;
    this.#anySpecial = anyOf([...special.keys()]);
    this.#answers = new AnswerFinder(template, anyOf([...special.keys()].filter((token) => token !== imageToken)));
  }

  /**
   * The segments of a conversation; `train` renders it with its last answer, otherwise it ends where the next answer begins.
   * Throws ConfigError when the template writes earlier turns differently later on and does not mark what the assistant says.
   */
  cut(messages: readonly Message[], { train }: { train: boolean }): Segment[] {
    const guard = guardFor(messages, this.#anySpecial);
    const hidden = guard.hide(messages);
    const whole = this.template.render(hidden, { generationPrompt: !train });
    const { marksGenerated } = this.template;
    const answers = this.#answers.find(hidden, whole.text, { closed: train });
    if (!answers && train && !marksGenerated) throw answersNotFound();
    const supervised = !train ? [] : marksGenerated ? whole.generated : (answers ?? []);
    return this.#split(whole.text, [...(answers ?? []), ...supervised].flat(), supervised).map((segment) => ({
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
}

/** Takes white space from beside the special tokens that swallow it, also where an answer begins in the middle of it. */
function swallowSpace(cut: readonly Segment[], special: ReadonlyMap<string, AddedToken>): Segment[] {
  const trimmed = cut.map((segment) => ({ ...segment }));
  const trim = (segments: readonly { text: string; readonly special: boolean }[], side: 'lstrip' | 'rstrip'): void => {
    let swallowing = false;
    for (const segment of segments) {
      if (segment.special) swallowing = special.get(segment.text)?.[side] === true;
      else if (swallowing) {
        segment.text = side === 'rstrip' ? segment.text.trimStart() : segment.text.trimEnd();
        swallowing = segment.text === '';
      }
    }
  };
  trim(trimmed, 'rstrip');
  trim(trimmed.toReversed(), 'lstrip');
  return trimmed.filter(({ text }) => text !== '');
}

function anyOf(tokens: readonly string[]): RegExp {
  const escaped = tokens.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return escaped.length > 0 ? new RegExp(escaped.join('|'), 'g') : /(?!)/g;
}
