import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';

/** One question of easy-VQA with its answer; `image` is the number of the picture. */
export interface Question {
  readonly question: string;
  readonly answer: string;
  readonly image: number;
}

/** What a picture shows, as far as its questions tell. */
export interface Facts {
  readonly shape?: string;
  readonly colour?: string;
}

/** A conversation as LLaVA's files have it. */
export interface Conversation {
  readonly id: string;
  readonly image: string;
  readonly conversations: readonly [{ readonly from: 'human'; readonly value: string }, { readonly from: 'gpt'; readonly value: string }];
}

const shapes: readonly string[] = ['circle', 'rectangle', 'triangle'];
const colours: readonly string[] = ['black', 'blue', 'brown', 'gray', 'green', 'red', 'teal', 'yellow'];
const Questions = z.array(z.tuple([z.string(), z.string(), z.int().nonnegative()])).min(1);

/** The questions of one split, as published. Throws DataError when the folder does not hold them. */
export async function readQuestions(folder: string, split: 'train' | 'test'): Promise<Question[]> {
  const file = join(folder, split, 'questions.json');
  const hint = 'fetch easy-VQA with `node scripts/fetch-data.mjs` or name its folder with --data';
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(`${file}: ${cause.code === 'ENOENT' ? 'no such file' : cause.message}`, { hint, cause });
  });
  try {
    return Questions.parse(JSON.parse(text)).map(([question, answer, image]) => ({ question, answer, image }));
  } catch (cause) {
    throw new DataError(`${file} does not hold the questions of easy-VQA: expected [[question, answer, image], …]`, { hint, cause });
  }
}

const words = (text: string): string[] => text.toLowerCase().match(/[a-z]+/g) ?? [];

/** The shape and the colour of every picture that its questions and answers tell; "is there no circle? no" tells a circle. */
export function pictureFacts(questions: readonly Question[]): Map<number, Facts> {
  const facts = new Map<number, Facts>();
  for (const { question, answer, image } of questions) {
    const asked = words(question);
    const affirmed = (answer === 'yes') !== (asked.includes('no') || asked.includes('not'));
    // "what color is the circle?" affirms the circle; its answer is a fact too
    const told = answer === 'yes' || answer === 'no' ? (affirmed ? asked : []) : [...asked, answer];
    const shape = told.find((word) => shapes.includes(word));
    const colour = told.find((word) => colours.includes(word));
    facts.set(image, { ...facts.get(image), ...(shape === undefined ? {} : { shape }), ...(colour === undefined ? {} : { colour }) });
  }
  return facts;
}

const row = (id: string, image: number, question: string, answer: string): Conversation => ({
  id,
  image: `train/images/${image}.png`,
  conversations: [
    { from: 'human', value: question === '' ? '<image>' : `<image>\n${question}` },
    { from: 'gpt', value: answer },
  ],
});

/** A caption such as "a blue rectangle" for every picture of which shape and colour are known. */
export function captions(questions: readonly Question[]): Conversation[] {
  return [...pictureFacts(questions)].flatMap(([image, { shape, colour }]) =>
    shape === undefined || colour === undefined ? [] : [row(`caption-${image}`, image, '', `a ${colour} ${shape}`)],
  );
}

/** One conversation of one turn for every question. */
export function instructions(questions: readonly Question[]): Conversation[] {
  return questions.map(({ question, answer, image }, index) => row(`question-${index}`, image, question, answer));
}
