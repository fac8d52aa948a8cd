import type { ContentPart, Message } from '../processor/message.ts';
import type { Sample } from './task.ts';

/** What LLaVA-1.5 adds to a question that has a short answer. */
export const shortAnswer = '\nAnswer the question using a single word or phrase.';

/** What LLaVA-1.5 adds to a question with lettered options. */
export const optionLetter = "\nAnswer with the option's letter from the given choices directly.";

/** What LLaVA-1.5 adds where a question may have no answer. */
export const mayBeUnanswerable = `\nWhen the provided information is insufficient, respond with 'Unanswerable'.${shortAnswer}`;

/** One turn of the user: the images, then the text. */
export function ask(images: readonly string[], text: string): Message[] {
  const pictures = images.map((image): ContentPart => ({ type: 'image', image }));
  return [{ role: 'user', content: [...pictures, { type: 'text', text }] }];
}

/** A prompt of the question and what follows it. */
export const questionAnd =
  (suffix: string) =>
  ({ images, question }: Sample): Message[] =>
    ask(images, `${question}${suffix}`);

/** The letters of options. */
export const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** A line for each option, `A. text`. */
export const optionLines = (options: readonly string[]): string => options.map((option, i) => `${letters[i]}. ${option}`).join('\n');

/** The text without one of LLaVA's endings, which its question files have in them. */
export function bareQuestion(text: string): string {
  const suffix = [mayBeUnanswerable, shortAnswer, optionLetter].find((ending) => text.endsWith(ending));
  return suffix === undefined ? text : text.slice(0, -suffix.length);
}
