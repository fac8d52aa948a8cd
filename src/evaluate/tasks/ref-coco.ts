import { basename } from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { ask } from '../prompts.ts';
import { published } from '../published.ts';
import { float, whiteSpace } from '../python.ts';
import { mean, means } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, Sample, Scored, Task, Verdict } from '../task.ts';

/** Left, top, right and bottom as shares of the image's sides. */
type Box = readonly [number, number, number, number];

interface BoxSample extends Sample {
  readonly box: Box;
}

const Row = z.looseObject({
  question_id: z.union([z.string(), z.number()]).transform(String),
  image: z.string(),
  bbox: z.array(z.number()).length(4),
  answer: z.array(z.string()),
});

/** Each expression is a question of its own; boxes of pixels become shares of the image. */
async function samples(files: readonly string[]): Promise<BoxSample[]> {
  const all: BoxSample[] = [];
  const sizes = new Map<string, { width: number; height: number }>();
  for (const file of files) {
    const split = /^(testA|testB|test|val)/.exec(basename(file))?.[1] ?? 'all';
    for (const { question_id, image, bbox, answer } of await tableRows([file], Row)) {
      const size = sizes.get(image) ?? (await sharp(image).metadata());
      sizes.set(image, size);
      const [x = 0, y = 0, w = 0, h = 0] = bbox;
      const box: Box = [x / size.width, y / size.height, (x + w) / size.width, (y + h) / size.height];
      for (const [i, question] of answer.entries()) {
        all.push({
          id: `${split}-${question_id}-${i}`,
          sharedId: question_id,
          question,
          images: [image],
          targets: [`[${box.map((side) => side.toFixed(3)).join(', ')}]`],
          category: split,
          box,
        });
      }
    }
  }
  if (all.length === 0) throw new DataError(`${files.join(', ')}: no expressions`);
  return all;
}

const spaces = `[${whiteSpace}]*`;
const fraction = `${spaces}(-?\\p{Nd}+(?:\\.\\p{Nd}+)?)`;
const fourNumbers = new RegExp(`\\[${fraction},${fraction},${fraction},${fraction}${spaces}\\]`, 'u');

/** The first four numbers in brackets. */
export function boxIn(answer: string): Box | undefined {
  const found = fourNumbers.exec(answer);
  if (!found) return undefined;
  const [left = 0, top = 0, right = 0, bottom = 0] = found.slice(1).map((text) => float(text) ?? 0);
  return [left, top, right, bottom];
}

/** Area of the intersection over that of the union, 0 where there is neither. */
export function overlap(a: Box, b: Box): number {
  const area = ([left, top, right, bottom]: Box): number => (right - left) * (bottom - top);
  const both = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const union = area(a) + area(b) - both;
  return union === 0 ? 0 : both / union;
}

function centred(truth: Box, said: Box): boolean {
  const [x, y] = [(said[0] + said[2]) / 2, (said[1] + said[3]) / 2];
  return truth[0] <= x && x <= truth[2] && truth[1] <= y && y <= truth[3];
}

const nowhere: Box = [0, 0, 0, 0];

function score({ box }: BoxSample, answer: string): Verdict {
  const said = boxIn(answer);
  return { parsed: JSON.stringify(said ?? nowhere), score: overlap(box, said ?? nowhere) >= 0.5 ? 1 : 0, ...(!said && { unparsed: true }) };
}

function aggregate(scored: readonly Scored<BoxSample>[]): readonly Metric[] {
  const said = ({ parsed, error }: Scored<BoxSample>): Box => (error === undefined ? (JSON.parse(parsed) as Box) : nowhere);
  const by = (name: string, value: (truth: Box, said: Box) => number): Metric =>
    mean(
      name,
      scored.map((one) => ({ ...one, score: one.error === undefined ? value(one.sample.box, said(one)) : 0 })),
      100,
    );
  const at = (least: number): Metric => by(`accuracy at ${least}`, (truth, box) => (overlap(truth, box) >= least ? 1 : 0));
  return [
    ...means(scored, { name: 'accuracy at 0.5', by: [({ category }) => category] }),
    by('mean IoU', (truth, box) => Math.min(1, Math.max(0, overlap(truth, box)))),
    ...[0.1, 0.3, 0.7, 0.9].map(at),
    by('centre within', (truth, box) => (centred(truth, box) ? 1 : 0)),
  ];
}

const format =
  'Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). All values are floating point numbers bounded between 0 and 1. ';
const request = 'Please provide the bounding box coordinate of the region this sentence describes: ';

function refCocoTask(name: string, folders: readonly string[], repository: string, paper: string): Task<BoxSample> {
  return {
    name,
    about: `where is what an expression describes? a box in shares of the image, right from an overlap of a half (${paper})`,
    maxNewTokens: 128,
    ...published<BoxSample>(folders, [
      {
        layout: 'lmms-eval',
        files: ['data/*.parquet|*.parquet'],
        from: `huggingface.co/datasets/lmms-lab/${repository}; all splits that are there are asked`,
        // The images' sizes are a part of the truth, so they are unpacked to score answers too.
        read: (found) => samples(found.all(0)),
      },
    ]),
    // The request that LLaVA-1.5 was trained with.
    prompt: ({ images, question }) => ask(images, `${request}${question}`),
    score,
    aggregate,
    lmmsEval: { stop: ['ASSISTANT:'], prompt: ({ images, question }) => ask(images, `${format}${request}${question}`) },
  };
}

export const refCoco = refCocoTask('refcoco', ['refcoco', 'RefCOCO'], 'RefCOCO', 'Kazemzadeh et al. 2014');
export const refCocoPlus = refCocoTask('refcoco+', ['refcoco+', 'RefCOCOplus'], 'RefCOCOplus', 'Yu et al. 2016');
export const refCocoG = refCocoTask('refcocog', ['refcocog', 'RefCOCOg'], 'RefCOCOg', 'Mao et al. 2016');
