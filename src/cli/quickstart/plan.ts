import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random } from '../../data/random.ts';
import type { Recipe } from '../../train/recipe.ts';
import { readRecipe } from '../../train/recipe-file.ts';
import { captions, instructions, type Question, readQuestions } from './easy-vqa.ts';

/** How much is done. */
export interface Extent {
  /** Steps of the optimizer in each stage, by its name; those of the recipe unless said otherwise. */
  readonly steps: Readonly<Record<string, number>>;
  /** The first so many test questions, all unless said otherwise. */
  readonly testQuestions: number | undefined;
  /** How often held-out questions are asked during the second stage, and how many. */
  readonly curvePoints: number;
  readonly curveQuestions: number;
  /** What to know about the scores. */
  readonly note?: string;
}

/** A whole run. */
export const full: Extent = { steps: {}, testQuestions: undefined, curvePoints: 12, curveQuestions: 400 };

/** A run of seconds that shows that everything works and learns nothing. */
export const short: Extent = {
  steps: { align: 4, instruct: 4 },
  testQuestions: 100,
  curvePoints: 2,
  curveQuestions: 20,
  note: 'This was a run of a few steps, which shows that everything works; its scores mean nothing.',
};

/** Pictures of the training split that nothing is learned from: the curve during training is measured on them. */
const heldOutPictures = 160;
const recipePath = fileURLToPath(new URL('../../../recipes/easy-vqa.quickstart.yaml', import.meta.url));

/** What the two stages learn from, and what is held out. */
export interface TrainingData {
  readonly pictures: number;
  readonly captions: number;
  readonly questions: number;
  /** The pictures held out, by number. */
  readonly heldOut: ReadonlySet<number>;
}

/** Writes align.json and instruct.json as LLaVA's conversations, beside links to the splits of easy-VQA, where their images are. Throws DataError when `data` does not hold easy-VQA. */
export async function writeTrainingData(data: string, folder: string, { seed }: { readonly seed: number }): Promise<TrainingData> {
  const questions = await readQuestions(data, 'train');
  const pictures = [...new Set(questions.map(({ image }) => image))];
  const heldOut = new Set(new Random(seed).shuffle([...pictures]).slice(0, heldOutPictures));
  const used = questions.filter(({ image }: Question) => !heldOut.has(image));
  const [align, instruct] = [captions(used), instructions(used)];
  await mkdir(folder, { recursive: true });
  for (const split of ['train', 'test']) await symlink(resolve(data, split), join(folder, split), 'junction');
  await writeFile(join(folder, 'align.json'), JSON.stringify(align));
  await writeFile(join(folder, 'instruct.json'), JSON.stringify(instruct));
  return { pictures: pictures.length - heldOut.size, captions: align.length, questions: instruct.length, heldOut };
}

/** The recipe of the quickstart with the seed and, where they differ from its own, the steps. */
export async function quickstartRecipe({ seed, steps }: { readonly seed: number; readonly steps: Extent['steps'] }): Promise<Recipe> {
  const recipe = await readRecipe(recipePath);
  const stages = recipe.stages.map(({ steps: own, ...stage }) => {
    const wanted = steps[stage.name] ?? own;
    return { ...stage, ...(wanted !== undefined && { steps: wanted }) };
  });
  return { ...recipe, seed, stages };
}
