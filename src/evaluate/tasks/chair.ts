import { join } from 'node:path';
import { z } from 'zod';
import { Random } from '../../data/random.ts';
import { DataError } from '../../errors.ts';
import { bootstrapped } from '../bootstrap.ts';
import { mentionedObjects } from '../coco-objects.ts';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { split } from '../python.ts';
import { readText } from '../questions-file.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task, Verdict } from '../task.ts';
import { readJson } from './vqa-files.ts';

const question = 'Please describe this image in detail.';

const Instances = z.looseObject({
  images: z.array(z.looseObject({ id: z.int(), file_name: z.string() })),
  annotations: z.array(z.looseObject({ image_id: z.int(), category_id: z.int() })),
  categories: z.array(z.looseObject({ id: z.int(), name: z.string() })),
});
const Captions = z.looseObject({ annotations: z.array(z.looseObject({ image_id: z.int(), caption: z.string() })) });
const Row = z.looseObject({
  question_id: z.union([z.string(), z.number()]).transform(String),
  gt_object: z.array(z.string()),
  image: z.string().optional(),
});

/** How many images are drawn where no list names them. */
const usual = 500;

async function cocoSamples(instanceFile: string, captionFile: string, list: string, images: string): Promise<Sample[]> {
  const instances = await readJson(instanceFile, Instances);
  const captions = await readJson(captionFile, Captions);
  const names = new Map(instances.categories.map(({ id, name }) => [id, name]));
  const truth = new Map<number, Set<string>>(instances.images.map(({ id }) => [id, new Set()]));
  for (const { image_id, category_id } of instances.annotations) truth.get(image_id)?.add(names.get(category_id) ?? '');
  for (const { image_id, caption } of captions.annotations)
    for (const object of mentionedObjects(caption)) truth.get(image_id)?.add(object);
  const files = new Map(instances.images.map(({ id, file_name }) => [id, file_name]));
  const wanted = list === '' ? drawn([...files.keys()].sort((a, b) => a - b)) : await listed(list);
  return wanted.map((id) => {
    const file = files.get(id);
    if (file === undefined) throw new DataError(`${instanceFile}: no image ${id}`, { hint: `${list} must name images of the same year` });
    return { id: String(id), question, images: [join(images, file)], targets: [...(truth.get(id) ?? [])].sort(), category: 'all' };
  });
}

const drawn = (ids: number[]): number[] =>
  new Random(0)
    .shuffle(ids)
    .slice(0, usual)
    .sort((a, b) => a - b);

async function listed(file: string): Promise<number[]> {
  const ids = split(await readText(file)).map(Number);
  if (ids.some((id) => !Number.isSafeInteger(id))) throw new DataError(`${file}: expected a number of an image in each line`);
  return ids;
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<Sample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, gt_object, image }) => ({
    id: question_id,
    question,
    images: image === undefined ? [] : [image],
    targets: gt_object,
    category: 'all',
  }));
}

function score({ targets }: Sample, answer: string): Verdict {
  const mentioned = mentionedObjects(answer);
  return { parsed: mentioned.join(', '), score: mentioned.every((object) => targets.includes(object)) ? 1 : 0 };
}

function aggregate(scored: readonly Scored[]): readonly Metric[] {
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, parsed, answer, error } of group) {
        const mentioned = parsed === '' ? [] : parsed.split(', ');
        const wrong = mentioned.filter((object) => !sample.targets.includes(object)).length;
        add('captions', 1);
        add('mentions', mentioned.length);
        add('wrong mentions', wrong);
        // What could not be asked is wrong, and finds nothing.
        add('wrong captions', wrong > 0 || error !== undefined ? 1 : 0);
        add('truths', new Set(sample.targets).size);
        add('found', new Set(mentioned.filter((object) => sample.targets.includes(object))).size);
        if (answer !== undefined) {
          add('answers', 1);
          add('words', split(answer).length);
        }
      }
    },
    values(sum) {
      const count = sum('captions');
      const percent = (part: string, whole: string): number => (sum(whole) === 0 ? 0 : (sum(part) / sum(whole)) * 100);
      return [
        { name: 'CHAIR_s', value: percent('wrong captions', 'captions'), count, max: 100, lowerIsBetter: true },
        { name: 'CHAIR_i', value: percent('wrong mentions', 'mentions'), count, max: 100, lowerIsBetter: true },
        { name: 'recall', value: percent('found', 'truths'), count, max: 100 },
        // No best length: the longest answer that the limit allows is no goal, so it is shown as it is.
        { name: 'words a caption', value: sum('words') / Math.max(1, sum('answers')), count: sum('answers'), max: 512 },
      ];
    },
  });
}

/** Objects that long captions make up. Rohrbach et al. 2018, arXiv:1809.02156; captions of images of COCO val2014. */
export const chair: Task = {
  name: 'chair',
  about: 'describes images; how many captions (s) and mentions (i) are of objects that are not there, and how many objects are found',
  // It rises with the length of captions: 512 is what most papers allow, 64 the other usual choice.
  maxNewTokens: 512,
  ...published<Sample>(
    ['chair', 'coco'],
    [
      {
        layout: 'COCO',
        files: ['annotations/instances_val2014.json', 'annotations/captions_val2014.json', '?chair_images.txt', 'val2014/'],
        from: `cocodataset.org (annotations and val2014); chair_images.txt holds an image's number a line, without it ${usual} images are drawn, the same each time`,
        read: (found) => cocoSamples(found.one(0), found.one(1), found.one(2), found.one(3)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/tsunghanwu/mscoco_chair',
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(''),
  score,
  aggregate,
  lmmsEval: { maxNewTokens: 2048, stop: [] },
};
