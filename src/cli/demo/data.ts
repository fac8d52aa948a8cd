import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Random } from '../../data/random.ts';
import { readQuestions } from '../quickstart/easy-vqa.ts';
import { draw, drawInto, perceptualHash, type View } from './pictures.ts';
import { groupAlike, type Split, splitGroups } from './split.ts';
import { readStamps, type Stamp } from './stamps.ts';

/** A stamp and its picture, a file below the data folder. */
export interface Picture extends Stamp {
  readonly image: string;
}

/** What was made of the two packages. */
export interface DemoData {
  readonly stamps: Split<Picture>;
  /** Conversations of each file. */
  readonly rows: { readonly captions: number; readonly answers: number; readonly shapes: number };
}

/** Where the packages lie. */
export interface DemoSources {
  readonly stamps: string;
  readonly easyVqa: string;
}

/** How a picture that is learned from is shown, beside as it is. */
const views: readonly View[] = [{ mirrored: true }, { degrees: 10, share: 0.85 }, { mirrored: true, degrees: -12, share: 0.75 }];
/** Pictures that are held out, at most, and which share of all at most. */
const kept = { test: { most: 100, share: 1 / 5 }, validation: { most: 60, share: 1 / 10 } };
/** Of a group with more pictures nothing is held out: it would be a large share of the test by itself. */
const largestHeldOut = 4;
const shapePictures = 400;
const shapeQuestions = 3;

/** What is asked for a caption; the first of them when the model is tested. */
export const captionQuestions = [
  'What is in the picture?',
  'What is this?',
  'Describe the picture.',
  'What does the picture show?',
] as const;
const nounQuestion = 'Name it in one word.';

interface Turn {
  readonly from: 'human' | 'gpt';
  readonly value: string;
}
interface Row {
  readonly id: string;
  readonly image: string;
  readonly conversations: readonly Turn[];
}

const exchange = (question: string, answer: string): Turn[] => [
  { from: 'human', value: question },
  { from: 'gpt', value: answer },
];

const imageOf = (name: string, view: number): string => `pictures/${name}${view === 0 ? '' : `-${view}`}.png`;

/** Draws the pictures and writes captions.json, answers.json and shapes.json as LLaVA's conversations. Throws DataError. */
export async function writeDemoData(sources: DemoSources, folder: string, { seed }: { readonly seed: number }): Promise<DemoData> {
  const stamps = await readStamps(sources.stamps);
  const hashes: Uint8Array[] = [];
  for (const { file } of stamps) hashes.push(await perceptualHash(await draw(file)));
  const groups = groupAlike(stamps, hashes);
  const large = groups.filter(({ length }) => length > largestHeldOut).flat();
  const count = ({ most, share }: { most: number; share: number }): number => Math.min(most, Math.ceil(share * stamps.length));
  const dealt = splitGroups(
    groups.filter(({ length }) => length <= largestHeldOut),
    { seed, test: count(kept.test), validation: count(kept.validation) },
  );
  const placed = (stamp: Stamp): Picture => ({ ...stamp, image: imageOf(stamp.name, 0) });
  const split = {
    train: [...dealt.train, ...large].map(placed),
    validation: dealt.validation.map(placed),
    test: dealt.test.map(placed),
  };
  for (const { name, file } of [...split.validation, ...split.test]) await drawInto(folder, imageOf(name, 0), file);
  const random = new Random(seed, 1);
  const captions: Row[] = [];
  const answers: Row[] = [];
  for (const { name, file, caption, noun } of split.train) {
    for (const [number, view] of [{}, ...views].entries()) {
      const image = imageOf(name, number);
      await drawInto(folder, image, file, view);
      const id = `${name}-${number}`;
      captions.push({ id, image, conversations: exchange('<image>', caption) });
      const question = captionQuestions[random.below(captionQuestions.length)] ?? '';
      answers.push({ id, image, conversations: [...exchange(`<image>\n${question}`, caption), ...exchange(nounQuestion, noun)] });
    }
  }
  const shapes = await writeShapes(sources.easyVqa, folder, random);
  await writeFile(join(folder, 'captions.json'), JSON.stringify(captions));
  await writeFile(join(folder, 'answers.json'), JSON.stringify(answers));
  await writeFile(join(folder, 'shapes.json'), JSON.stringify(shapes));
  return { stamps: split, rows: { captions: captions.length, answers: answers.length, shapes: shapes.length } };
}

/** Some pictures of easy-VQA, each with a few of its questions in one conversation. */
async function writeShapes(easyVqa: string, folder: string, random: Random): Promise<Row[]> {
  const questions = await readQuestions(easyVqa, 'train');
  const chosen = random.shuffle([...new Set(questions.map(({ image }) => image))]).slice(0, shapePictures);
  await mkdir(folder, { recursive: true });
  await symlink(resolve(easyVqa, 'train'), join(folder, 'train'), 'junction');
  return chosen.map((image) => {
    const asked = random.shuffle(questions.filter((question) => question.image === image)).slice(0, shapeQuestions);
    const turns = asked.flatMap(({ question, answer }, i) => exchange(i === 0 ? `<image>\n${question}` : question, answer));
    return { id: `shape-${image}`, image: `train/images/${image}.png`, conversations: turns };
  });
}
