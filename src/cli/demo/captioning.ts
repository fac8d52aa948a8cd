import { join } from 'node:path';
import { bleu, captionTokens, cider, rougeL } from '../../evaluate/captions/index.ts';
import { type Interval, wilson } from '../../evaluate/interval.ts';
import { average } from '../../evaluate/score.ts';
import type { ChatModel, GenerateOptions } from '../../generate/generate.ts';
import type { Log } from '../../log.ts';
import { nounOf } from './caption.ts';
import { captionQuestions, type Picture } from './data.ts';

/** Answers that grow together. */
const slots = 16;
const maxNewTokens = 24;

/** What was said about pictures, in their order. */
export type Said = readonly string[];

/** How good what was said is. */
export interface CaptionScores {
  readonly count: number;
  /** The share whose noun is the caption's. */
  readonly noun: { readonly value: number } & Interval;
  /** CIDEr-D, 0 to 10. */
  readonly cider: number;
  readonly rougeL: number;
  readonly bleu1: number;
}

/** A caption's first line: nothing behind it was asked for. */
const firstLine = (text: string): string => text.trim().split('\n')[0] ?? '';

/** Asks the model what each picture shows. Throws the signal's reason. */
export async function describePictures(
  chat: ChatModel,
  folder: string,
  pictures: readonly Picture[],
  { log, signal }: { readonly log?: Log; readonly signal?: AbortSignal } = {},
): Promise<Said> {
  const said: string[] = new Array(pictures.length).fill('');
  const requests = pictures.map(({ image }): GenerateOptions => {
    const content = [{ type: 'image', image: join(folder, image) } as const, { type: 'text', text: captionQuestions[0] } as const];
    return { messages: [{ role: 'user', content }], maxNewTokens };
  });
  let done = 0;
  let right = 0;
  for await (const outcome of chat.answers(requests, { slots, ...(signal && { signal }) })) {
    if ('error' in outcome) throw outcome.error;
    said[outcome.index] = firstLine(outcome.answer.text);
    if (nounOf(outcome.answer.text) === pictures[outcome.index]?.noun) right++;
    done++;
    log?.({ event: 'answered', task: 'captions', done, samples: pictures.length, meanScore: right / done });
  }
  return said;
}

/** What the model says when it is asked the same without a picture: what can be known without looking. */
export async function describeNothing(chat: ChatModel, pictures: readonly Picture[]): Promise<Said> {
  const { text } = await chat.generate({ messages: [{ role: 'user', content: captionQuestions[0] }], maxNewTokens });
  return pictures.map(() => firstLine(text));
}

/** Scores what was said about the pictures; rarity in CIDEr is that among `all`, so that parts of a set compare with the whole. */
export function scoreCaptions(pictures: readonly Picture[], said: Said, all: readonly Picture[] = pictures): CaptionScores {
  const pairs = pictures.map(({ caption }, i) => ({ candidate: captionTokens(said[i] ?? ''), references: [captionTokens(caption)] }));
  const others = all
    .filter((picture) => !pictures.includes(picture))
    .map(({ caption }) => ({ candidate: [], references: [captionTokens(caption)] }));
  const right = pictures.filter(({ noun }, i) => nounOf(said[i] ?? '') === noun).length;
  return {
    count: pictures.length,
    noun: { value: right / Math.max(1, pictures.length), ...wilson(right, pictures.length) },
    cider: average(cider([...pairs, ...others]).slice(0, pairs.length)),
    rougeL: average(rougeL(pairs)),
    bleu1: bleu(pairs)[0] ?? 0,
  };
}
