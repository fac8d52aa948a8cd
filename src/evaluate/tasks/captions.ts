import { join } from 'node:path';
import { z } from 'zod';
import { Random } from '../../data/random.ts';
import { grouped } from '../bootstrap.ts';
import { bleu, type CaptionPair, captionTokens, cider, rougeL } from '../captions/index.ts';
import { type Interval, normalQuantile } from '../interval.ts';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { average } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { Metric, OpenOptions, Sample, Scored, Task } from '../task.ts';
import { readJson } from './vqa-files.ts';

/** What lmms-eval asks, in all three tasks. */
const question = 'Provide a one-sentence caption for the provided image.';

const Id = z.union([z.string(), z.number()]).transform(String);
const Coco = z.looseObject({
  images: z.array(z.looseObject({ id: z.int(), file_name: z.string(), domain: z.string().optional() })),
  annotations: z.array(z.looseObject({ image_id: z.int(), caption: z.string() })),
});
const Row = z
  .looseObject({
    question_id: Id.optional(),
    image_id: Id.optional(),
    img_id: Id.optional(),
    answer: z.array(z.string()).optional(),
    caption: z.array(z.string()).optional(),
    annotations_captions: z.array(z.string()).optional(),
    domain: z.string().optional(),
    image: z.string().optional(),
  })
  .refine(({ answer, caption, annotations_captions }) => answer ?? caption ?? annotations_captions, 'no captions');

async function cocoSamples(file: string, images: string): Promise<Sample[]> {
  const { images: pictures, annotations } = await readJson(file, Coco);
  const captions = grouped(annotations, ({ image_id }) => String(image_id));
  return pictures.map(({ id, file_name, domain }) => ({
    id: String(id),
    question,
    images: [join(images, file_name)],
    targets: (captions.get(String(id)) ?? []).map(({ caption }) => caption),
    category: domain ?? 'all',
  }));
}

async function tableSamples(files: readonly string[], options: OpenOptions): Promise<Sample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, image_id, img_id, answer, caption, annotations_captions, domain, image }, i) => ({
    id: image_id ?? img_id ?? question_id ?? String(i),
    question,
    images: image === undefined ? [] : [image],
    targets: answer ?? caption ?? annotations_captions ?? [],
    category: domain ?? 'all',
  }));
}

/** The normal interval of a mean of scores that captions have one by one. */
function meanMetric(name: string, values: readonly number[], max: number): Metric {
  const mean = average(values);
  const half = normalQuantile * Math.sqrt(average(values.map((value) => (value - mean) ** 2)) / Math.max(1, values.length - 1));
  return { name, value: mean, interval: { low: Math.max(0, mean - half), high: Math.min(max, mean + half) }, count: values.length, max };
}

const blocks = 20;

/**
 * The interval of a number that all captions have together, by the jackknife over blocks: how it changes when a twentieth is left out (Quenouille 1956). All
 * that it can be where there are fewer captions than blocks.
 */
function jackknife(
  value: number,
  pairs: readonly CaptionPair[],
  statistic: (pairs: readonly CaptionPair[]) => number,
  max: number,
): Interval {
  if (pairs.length < blocks) return { low: 0, high: max };
  // Drawn, so that no pattern in the order of the file makes all blocks alike.
  const mixed = new Random(0).shuffle([...pairs]);
  const without = Array.from({ length: blocks }, (_, block) => statistic(mixed.filter((_, i) => i % blocks !== block)));
  const mean = average(without);
  const half = normalQuantile * Math.sqrt((blocks - 1) * average(without.map((one) => (one - mean) ** 2)));
  return { low: Math.max(0, value - half), high: Math.min(max, value + half) };
}

/**
 * CIDEr-D, ROUGE-L and BLEU in percent, CIDEr with its factor of 10. How rare a phrase is, is counted over all images; for the CIDEr of each domain of NoCaps
 * over those of the domain, which are evaluated by themselves.
 */
function aggregate(scored: readonly Scored[]): readonly Metric[] {
  const known = scored.filter(({ sample }) => sample.targets.length > 0);
  if (known.length === 0) return [];
  const pairs = known.map(({ sample, answer = '' }) => ({
    domain: sample.category,
    candidate: captionTokens(answer),
    references: sample.targets.map(captionTokens),
  }));
  const domains = [...grouped(pairs, ({ domain }) => domain)].sort(([a], [b]) => (a < b ? -1 : 1));
  const percent = (values: readonly number[]): number[] => values.map((value) => 100 * value);
  return [
    meanMetric('CIDEr', percent(cider(pairs)), 1000),
    meanMetric('ROUGE-L', percent(rougeL(pairs)), 100),
    ...bleu(pairs).map((share, i) => {
      const value = 100 * share;
      const interval = jackknife(value, pairs, (some) => 100 * (bleu(some)[i] ?? 0), 100);
      return { name: `BLEU-${i + 1}`, value, interval, count: known.length, max: 100 };
    }),
    ...(domains.length > 1 ? domains : []).map(([domain, part]) => meanMetric(`${domain} CIDEr`, percent(cider(part)), 1000)),
  ];
}

interface Captions {
  readonly name: string;
  readonly about: string;
  readonly folders: readonly string[];
  readonly own?: readonly [annotations: string, images: string, from: string];
  readonly table: string;
  readonly repository: string;
}

function captionTask({ name, about, folders, own, table, repository }: Captions): Task {
  return {
    name,
    about: `${about}, by CIDEr, ROUGE-L and BLEU`,
    maxNewTokens: 64,
    ...published<Sample>(folders, [
      ...(own
        ? [
            {
              layout: 'COCO',
              files: own.slice(0, 2),
              from: own[2],
              read: (found: { one(i: number): string }) => cocoSamples(found.one(0), found.one(1)),
            },
          ]
        : []),
      {
        layout: 'lmms-eval',
        files: [table],
        from: `huggingface.co/datasets/lmms-lab/${repository}`,
        read: (found, options) => tableSamples(found.all(0), options),
      },
    ]),
    prompt: questionAnd(''),
    // Captions are compared as a whole set; a single one has ROUGE-L for a score.
    score: ({ targets }, answer) => ({
      parsed: answer,
      score: targets.length === 0 ? 0 : (rougeL([{ candidate: captionTokens(answer), references: targets.map(captionTokens) }])[0] ?? 0),
    }),
    aggregate,
    submission: (scored) => scored.map(({ sample, answer = '' }) => ({ image_id: Number(sample.id), caption: answer })),
    lmmsEval: {},
  };
}

/** Captions of COCO. Chen et al. 2015, arXiv:1504.00325. */
export const cocoCaption = captionTask({
  name: 'coco-caption',
  about: 'one sentence about a photograph of COCO',
  folders: ['coco-caption', 'coco'],
  own: [
    'annotations/captions_val2017.json|annotations/captions_val2014.json',
    'val2017/|val2014/',
    'cocodataset.org (annotations and images of one year)',
  ],
  table: 'data/val-*.parquet|val-*.parquet',
  repository: 'COCO-Caption2017 or COCO-Caption',
});

/** Captions of Flickr30k. Young et al. 2014; lmms-eval asks about all 31,783 images. */
export const flickr30k = captionTask({
  name: 'flickr30k',
  about: 'one sentence about a photograph of Flickr',
  folders: ['flickr30k', 'Flickr30k'],
  table: 'data/test-*.parquet|test-*.parquet',
  repository: 'flickr30k',
});

/** Captions of things that COCO has none of. Agrawal et al. 2019, arXiv:1812.08658; 4500 images in val. */
export const noCaps = captionTask({
  name: 'nocaps',
  about: 'one sentence about a photograph, with things that COCO has none of',
  folders: ['nocaps', 'NoCaps'],
  own: ['nocaps_val_4500_captions.json', 'images/|val/', 'nocaps.org/download'],
  table: 'data/validation-*.parquet|validation-*.parquet',
  repository: 'NoCaps',
});
