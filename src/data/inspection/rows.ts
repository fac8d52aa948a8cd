import { DataError } from '../../errors.ts';
import { contentParts, type InputMessage, imagesOf, type Message } from '../../processor/message.ts';
import type { Example, Processor } from '../../processor/processor.ts';
import { supervisedTokens } from '../batch.ts';
import { RowError } from '../conversation.ts';
import type { Flaw, ProblemKind } from '../report.ts';
import type { Row } from '../rows.ts';
import { type Span, spansOf } from '../spans.ts';
import { checkImage } from './images.ts';
import { keyOf } from './seen.ts';

/** How rows are looked at. */
export interface RowLook {
  readonly processor: Processor | undefined;
  readonly maxLength: number;
}

/** What is found in one row; what it has beside flaws is left out where it cannot be read. */
export interface RowFacts {
  readonly name: string;
  readonly flaws: readonly Flaw[];
  readonly read?: ReadFacts;
}

/** What is found in a row that can be read. */
export interface ReadFacts {
  readonly id: string | undefined;
  /** Stands for all that training reads of it. */
  readonly key: string;
  readonly turns: { readonly system: number; readonly human: number; readonly gpt: number };
  readonly answers: { readonly empty: number; readonly skipped: number; readonly unanswered: number };
  readonly answerCharacters: readonly number[];
  readonly images: number;
  /** Of the images, those inside the row that were decoded. */
  readonly decoded: number;
  /** Paths of images, then of videos. */
  readonly files: readonly string[];
  readonly videos: number;
  readonly tokens?: TokenFacts;
}

interface TokenFacts {
  readonly count: number;
  readonly supervised: number;
  readonly cut: boolean;
  /** Learned tokens that are cut. */
  readonly lost: number;
  readonly spans?: readonly Span[];
}

/** Looks at a row as `read` gives it. Throws what is no DataError. */
export async function lookAtRow(
  name: string,
  read: () => Promise<Row>,
  { decode, sample, ...look }: RowLook & { decode: boolean; sample: boolean },
): Promise<RowFacts> {
  const flaws: Flaw[] = [];
  const attempt = async <T>(kind: (error: DataError) => ProblemKind, body: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await body();
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      flaws.push({ kind: kind(error), message: error.message.replace(`${name}: `, '').replace(`${name} `, ''), hint: error.hint });
      return undefined;
    }
  };
  const row = await attempt((error) => (error instanceof RowError ? error.kind : 'broken row'), read);
  if (!row) return { name, flaws };
  const { messages } = row;
  const answers = messages.flatMap((message, i) => (message.role === 'assistant' ? [{ message, turn: row.skippedAnswers + i + 1 }] : []));
  const empty = answers.filter(({ message }) => textOf(message).trim() === '');
  const [first] = empty;
  if (first) flaws.push({ kind: 'empty answer', message: `turn ${first.turn} is empty`, hint: 'remove it with its question, or the row' });
  const shown = answers.find(({ message }) => contentParts(message).some(({ type }) => type !== 'text'));
  if (shown)
    flaws.push({ kind: 'image in answer', message: `turn ${shown.turn} shows an image`, hint: 'put its tag into a turn of "human"' });
  const images = imagesOf(messages);
  const inside = images.filter(({ source }) => typeof source !== 'string' || source.startsWith('data:'));
  if (decode) {
    for (const { source } of inside)
      await attempt(
        () => 'unreadable image',
        () => checkImage(source, look.processor),
      );
  }
  const videos = videosOf(messages);
  const { processor } = look;
  const tokens =
    processor &&
    (await attempt(
      () => 'refused',
      () => countTokens(messages, { ...look, processor, sample }),
    ));
  if (tokens?.cut) flaws.push(tooLong(tokens, look.maxLength));
  if (tokens && tokens.supervised === tokens.lost) flaws.push(nothingLearned(tokens, look.maxLength));
  return {
    name,
    flaws,
    read: {
      id: row.id,
      key: keyOf(JSON.stringify(messages, withoutBytes)),
      turns: {
        system: messages.filter(({ role }) => role === 'system').length,
        human: messages.filter(({ role }) => role === 'user').length,
        gpt: answers.length,
      },
      answers: { empty: empty.length, skipped: row.skippedAnswers, unanswered: row.droppedQuestions },
      answerCharacters: answers.map(({ message }) => textOf(message).length),
      images: images.length,
      decoded: decode ? inside.length : 0,
      files: [...images.flatMap(({ source }) => (typeof source === 'string' && !source.startsWith('data:') ? [source] : [])), ...videos],
      videos: videos.length,
      ...(tokens && { tokens }),
    },
  };
}

const tooLong = ({ count, supervised, lost }: TokenFacts, maxLength: number): Flaw => ({
  kind: 'too long',
  message: `${count} tokens are more than ${maxLength}, ${lost} of ${supervised} learned ones are cut`,
  hint: 'raise maxLength, or split the conversation',
});

const nothingLearned = ({ count }: TokenFacts, maxLength: number): Flaw => ({
  kind: 'nothing learned',
  message: `none of ${Math.min(count, maxLength)} tokens is learned`,
  hint: 'raise maxLength, or remove the row',
});

async function countTokens(
  messages: readonly InputMessage[],
  { processor, maxLength, sample }: RowLook & { processor: Processor; sample: boolean },
): Promise<TokenFacts> {
  const whole = await encode(messages, processor);
  const example = processor.truncate(whole, maxLength);
  const supervised = supervisedTokens(whole.labels);
  return {
    count: whole.ids.length,
    supervised,
    cut: example.ids.length < whole.ids.length,
    lost: supervised - supervisedTokens(example.labels),
    ...(sample && { spans: spansOf(example, processor) }),
  };
}

/** An image that cannot be read is found with the images; here it is as if it were small. */
async function encode(messages: readonly InputMessage[], processor: Processor): Promise<Example> {
  try {
    return await processor.read(messages, { train: true });
  } catch (error) {
    if (!(error instanceof DataError) || videosOf(messages).length > 0) throw error;
    return processor.encode(messages as readonly Message[], { train: true });
  }
}

const videosOf = (messages: readonly InputMessage[]): string[] =>
  messages.flatMap((message) => contentParts(message).flatMap((part) => (part.type === 'video' ? [part.video] : [])));

function textOf(message: InputMessage): string {
  return contentParts(message)
    .map((part) => (part.type === 'text' ? part.text : ''))
    .join('');
}

/** For JSON.stringify: an image's bytes as what stands for them. */
const withoutBytes = (_: string, value: unknown): unknown => (value instanceof Uint8Array ? keyOf(value) : value);
