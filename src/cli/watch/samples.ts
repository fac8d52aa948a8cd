import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RowSource } from '../../data/rows.ts';
import { DataError } from '../../errors.ts';
import { ChatModel } from '../../generate/generate.ts';
import type { InputMessage } from '../../processor/message.ts';
import { openData } from '../../train/build.ts';
import type { Recipe } from '../../train/recipe.ts';
import type { StepEvent } from '../../train/stage.ts';
import type { Trained } from '../../train/trainer.ts';
import { samplesFile } from './app.ts';
import type { TrainingSample } from './page.ts';

const asked = 3;
const moments = 20;
const maxNewTokens = 48;

function textOf(message: InputMessage | undefined): string {
  const { content = '' } = message ?? {};
  if (typeof content === 'string') return content.trim();
  const words = content.map((part) => (part.type === 'text' ? part.text : `<${part.type}>`));
  return words.join(' ').trim();
}

interface Question {
  readonly messages: readonly InputMessage[];
  readonly truth: string;
}

/** What stands before the first answer of rows spread over the data, and that answer. */
async function questionsOf(rows: RowSource): Promise<Question[]> {
  const questions: Question[] = [];
  for (let i = 0; i < Math.min(asked, rows.length); i++) {
    try {
      const { messages } = await rows.row(Math.floor((i * rows.length) / asked));
      const first = messages.findIndex(({ role }) => role === 'assistant');
      if (first > 0) questions.push({ messages: messages.slice(0, first), truth: textOf(messages[first]) });
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
  readonly #file: string;
  readonly #questions = new Map<string, Question[]>();

  constructor(recipe: Recipe, { root, out }: { root: string; out: string }) {
    this.#recipe = recipe;
    this.#root = root;
    this.#file = join(out, samplesFile);
  }

  /** For calling behind every step. */
  async after({ stage, step, steps }: StepEvent, { model, processor }: Trained): Promise<void> {
    if (step !== 1 && step !== steps && step % Math.ceil(steps / moments) !== 0) return;
    const questions = await this.#of(stage);
    const chat = new ChatModel(model, processor);
    try {
      for await (const outcome of chat.answers(questions.map(({ messages }) => ({ messages, maxNewTokens, temperature: 0 })))) {
        const { messages, truth } = questions[outcome.index] as Question;
        if ('error' in outcome) continue;
        const sample: TrainingSample = { stage, step, question: textOf(messages.at(-1)), answer: outcome.answer.text, truth };
        appendFileSync(this.#file, `${JSON.stringify(sample)}\n`);
      }
    } finally {
      chat.free();
    }
  }

  async #of(stage: string): Promise<Question[]> {
    const known = this.#questions.get(stage);
    if (known) return known;
    await using data = await openData(this.#recipe.stages.find(({ name }) => name === stage)?.data ?? [], this.#root);
    const found = await questionsOf(data);
    this.#questions.set(stage, found);
    return found;
  }
}
