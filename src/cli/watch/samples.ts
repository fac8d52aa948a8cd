import { createHash } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import sharp from 'sharp';
import type { RowSource } from '../../data/rows.ts';
import { DataError, isSystemError } from '../../errors.ts';
import { ChatModel } from '../../generate/generate.ts';
import { decodeImage } from '../../processor/image-decode.ts';
import { type InputMessage, imagesOf } from '../../processor/message.ts';
import { openData } from '../../train/build.ts';
import type { Recipe } from '../../train/recipe.ts';
import type { StepEvent } from '../../train/stage.ts';
import type { Trained } from '../../train/trainer.ts';
import type { TrainingSample } from './answers.ts';
import { imagesFolder, samplesFile } from './app.ts';

const asked = 3;
const moments = 20;
const maxNewTokens = 48;
const side = 200;

function textOf(message: InputMessage | undefined): string {
  const { content = '' } = message ?? {};
  if (typeof content === 'string') return content.trim();
  const words = content.map((part) => (part.type === 'text' ? part.text : `<${part.type}>`));
  return words.join(' ').trim();
}

interface Question extends Pick<TrainingSample, 'row' | 'images' | 'truth'> {
  readonly messages: readonly InputMessage[];
}

/** Keeps a small copy of each image of a conversation in a folder. Gives their names, which follow from what they show. */
async function smallImages(messages: readonly InputMessage[], folder: string): Promise<string[]> {
  const names: string[] = [];
  for (const { source } of imagesOf(messages)) {
    const { data, width, height } = await decodeImage(source);
    const image = sharp(data, { raw: { width, height, channels: 3 } });
    const small = await image.resize(side, side, { fit: 'inside', withoutEnlargement: true }).webp({ quality: 70 }).toBuffer();
    const name = `${createHash('sha256').update(small).digest('hex').slice(0, 16)}.webp`;
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, name), small);
    names.push(name);
  }
  return names;
}

/** What stands before the first answer of rows spread over the data, and that answer. */
async function questionsOf(rows: RowSource, { root, folder }: { root: string; folder: string }): Promise<Question[]> {
  const questions: Question[] = [];
  for (let i = 0; i < Math.min(asked, rows.length); i++) {
    try {
      const { name, messages } = await rows.row(Math.floor((i * rows.length) / asked));
      const first = messages.findIndex(({ role }) => role === 'assistant');
      if (first <= 0) continue;
      const before = messages.slice(0, first);
      const images = await smallImages(before, folder);
      questions.push({ row: relative(root, name), messages: before, truth: textOf(messages[first]), images });
    } catch (error) {
      if (!(error instanceof DataError)) throw error; // training says what is wrong with the row
    }
  }
  return questions;
}

/** Asks the model about rows of its own data some twenty times a stage and adds its answers to the run's folder. */
export class SampleAnswers {
  readonly #recipe: Recipe;
  readonly #root: string;
  readonly #out: string;
  readonly #questions = new Map<string, Question[]>();

  constructor(recipe: Recipe, { root, out }: { root: string; out: string }) {
    this.#recipe = recipe;
    this.#root = root;
    this.#out = out;
  }

  /** For calling behind every step. */
  async after(event: StepEvent, trained: Trained): Promise<void> {
    const { step, steps } = event;
    if (step !== 1 && step !== steps && step % Math.ceil(steps / moments) !== 0) return;
    try {
      await this.#ask(event, trained);
    } catch (error) {
      // A full disk ends the run at its metrics, with what was saved last.
      if (!isSystemError(error)) throw error;
    }
  }

  async #ask({ stage, step }: StepEvent, { model, processor }: Trained): Promise<void> {
    const questions = await this.#of(stage);
    const chat = new ChatModel(model, processor);
    try {
      for await (const outcome of chat.answers(questions.map(({ messages }) => ({ messages, maxNewTokens, temperature: 0 })))) {
        const { messages, ...asked } = questions[outcome.index] as Question;
        if ('error' in outcome) continue;
        const sample: TrainingSample = { stage, step, ...asked, question: textOf(messages.at(-1)), answer: outcome.answer.text };
        appendFileSync(join(this.#out, samplesFile), `${JSON.stringify(sample)}\n`);
      }
    } finally {
      chat.free();
    }
  }

  async #of(stage: string): Promise<Question[]> {
    const known = this.#questions.get(stage);
    if (known) return known;
    await using data = await openData(this.#recipe.stages.find(({ name }) => name === stage)?.data ?? [], this.#root);
    const found = await questionsOf(data, { root: this.#root, folder: join(this.#out, imagesFolder) });
    this.#questions.set(stage, found);
    return found;
  }
}
