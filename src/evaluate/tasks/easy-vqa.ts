import { dirname, join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { firstExisting, readRows } from '../questions-file.ts';
import { exactMatch, meanByCategory } from '../score.ts';
import type { Sample, Task } from '../task.ts';

const Row = z.tuple([z.string(), z.string(), z.int().nonnegative()]);
const shapes = ['circle', 'rectangle', 'triangle'];

function category(answer: string): string {
  if (answer === 'yes' || answer === 'no') return 'yes/no';
  return shapes.includes(answer) ? 'shape' : 'colour';
}

async function samples(file: string): Promise<Sample[]> {
  const rows = await readRows(file, Row);
  return rows.map(([question, answer, image], index) => ({
    id: String(index),
    question,
    images: [join(dirname(file), 'images', `${image}.png`)],
    targets: [answer],
    category: category(answer),
  }));
}

/** Questions about one coloured shape, 9,673 in the published test split; https://github.com/vzhou842/easy-VQA. */
export const easyVqa: Task = {
  name: 'easy-vqa',
  about: 'shape, colour and yes/no questions about one shape',
  wants: [
    {
      layout: 'easy-vqa',
      files: ['test/questions.json', 'test/images/', 'train/questions.json (for the baselines)'],
      from: '`pip download easy-vqa --no-deps`: its folder easy_vqa/data',
    },
  ],
  maxNewTokens: 8,

  async open(folder) {
    const file = firstExisting(folder, ['easy-vqa/test/questions.json', 'test/questions.json']);
    if (file === undefined) {
      throw new DataError(`${folder}: no test/questions.json of easy-vqa`, {
        hint: 'get it with `pip download easy-vqa --no-deps`, unpack it, and name its folder easy_vqa/data',
      });
    }
    const training = firstExisting(dirname(dirname(file)), ['train/questions.json']);
    return { samples: await samples(file), files: [file], ...(training && { train: await samples(training) }) };
  },

  prompt: ({ question, images }) => [
    { role: 'user', content: [...images.map((image) => ({ type: 'image', image }) as const), { type: 'text', text: question }] },
  ],
  score: exactMatch,
  aggregate: meanByCategory,
};
