import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { checkIds, firstExisting, readRows } from '../questions-file.ts';
import { exactMatch, meanByCategory } from '../score.ts';
import type { Sample, Task } from '../task.ts';

const some = z.union([z.string().transform((one) => [one]), z.array(z.string()).min(1)], { error: 'expected a text or a list of texts' });

/** LLaVA's question rows with the answers in them. */
const Row = z.strictObject({
  question_id: z.union([z.string(), z.number()]).transform(String),
  image: some.optional(),
  text: z.string(),
  answer: some,
  category: z.string().optional(),
});

/** The answer types of VQA. */
function answerType(answers: readonly string[]): string {
  if (answers.every((answer) => /^(yes|no)$/i.test(answer.trim()))) return 'yes/no';
  return answers.every((answer) => /^\d+([.,]\d+)*$/.test(answer.trim())) ? 'number' : 'other';
}

/** Questions of the user's own, scored by exact match. */
export const vqa: Task = {
  name: 'vqa',
  about: 'questions of your own, by exact match',
  wants: [
    {
      layout: 'your own',
      files: ['questions.jsonl|questions.json', 'images/'],
      from: 'you: question_id, image, text, answer and perhaps category',
    },
  ],
  maxNewTokens: 128,

  async open(folder) {
    const file = firstExisting(folder, ['vqa/questions.jsonl', 'vqa/questions.json', 'questions.jsonl', 'questions.json']);
    if (file === undefined) {
      throw new DataError(`${folder}: neither questions.jsonl nor questions.json`, {
        hint: 'write one row a question: {"question_id": 1, "image": "a.png", "text": "What is it?", "answer": "a cup"}',
      });
    }
    const home = dirname(file);
    const place = (image: string): string => (existsSync(resolve(home, image)) ? resolve(home, image) : resolve(home, 'images', image));
    const rows = await readRows(file, Row);
    const samples = rows.map(
      ({ question_id, image = [], text, answer, category }): Sample => ({
        id: question_id,
        question: text,
        images: image.map(place),
        targets: answer,
        category: category ?? answerType(answer),
      }),
    );
    checkIds(samples, file);
    return { samples, files: [file] };
  },

  prompt: ({ question, images }) => [
    { role: 'user', content: [...images.map((image) => ({ type: 'image', image }) as const), { type: 'text', text: question }] },
  ],
  score: exactMatch,
  aggregate: meanByCategory,
};
