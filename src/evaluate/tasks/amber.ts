import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { bootstrapped } from '../bootstrap.ts';
import { singulars, wordsOf } from '../nouns.ts';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { round } from '../python.ts';
import { readRows, readText } from '../questions-file.ts';
import { unparsed, verdict } from '../score.ts';
import type { Metric, Sample, Scored, Task } from '../task.ts';
import { readJson } from './vqa-files.ts';

interface AmberSample extends Sample {
  /** Things that are in the image, and things that models like to make up for it; both with the words for them. */
  readonly present: readonly (readonly string[])[];
  readonly tempting: readonly (readonly string[])[];
  /** Words that may stand for a thing at all, and those that are never held against an answer. */
  readonly vocabulary: ReadonlySet<string>;
  readonly safe: ReadonlySet<string>;
}

const Query = z.looseObject({ id: z.int(), image: z.string(), query: z.string() });
const Words = z.union([z.string().transform((one) => [one]), z.array(z.string())]);
const Annotation = z.looseObject({ id: z.int(), type: z.string(), truth: Words, hallu: z.array(z.string()).default([]) });
const Relations = z.record(z.string(), z.array(z.string()));

async function annotated(queryFile: string, annotationFile: string, wanted: (type: string) => boolean) {
  const annotations = new Map((await readRows(annotationFile, Annotation)).map((one) => [one.id, one]));
  return (await readRows(queryFile, Query)).flatMap(({ id, image, query }) => {
    const annotation = annotations.get(id);
    if (!annotation) throw new DataError(`${annotationFile}: no annotation of query ${id}`);
    return wanted(annotation.type) ? [{ id: String(id), image, query, annotation }] : [];
  });
}

interface AmberFiles {
  readonly queries: string;
  readonly annotations: string;
  readonly relations: string;
  readonly safeWords: string;
  readonly images: string;
}

async function generativeSamples({ queries, annotations, relations, safeWords, images }: AmberFiles): Promise<AmberSample[]> {
  const related = await readJson(relations, Relations);
  const vocabulary = new Set(Object.entries(related).flat(2));
  const safe = new Set((await readText(safeWords)).split('\n').map((line) => line.trim()));
  const all = (word: string): string[] => [word, ...(related[word] ?? [])];
  const rows = await annotated(queries, annotations, (type) => type === 'generative');
  return rows.map(({ id, image, query, annotation: { truth, hallu } }) => ({
    id,
    question: query,
    images: [join(images, image)],
    targets: truth,
    category: 'generative',
    present: truth.map(all),
    tempting: hallu.map(all),
    vocabulary,
    safe,
  }));
}

/** For each word of an answer that stands for a thing: the number of the present thing, `-` for a harmless word, `!` for a made-up thing. */
function things({ present, vocabulary, safe }: AmberSample, answer: string): { word: string; what: number | '-' | '!' }[] {
  const nouns = wordsOf(answer).flatMap((word) => singulars(word).find((form) => vocabulary.has(form)) ?? []);
  return nouns.map((word) => {
    if (safe.has(word)) return { word, what: '-' };
    const at = placeOf(word, present);
    return { word, what: at >= 0 ? at : '!' };
  });
}

/** The one thing that a word stands for, -1 for none: the words that go with things come before their names in AMBER's own search. */
function placeOf(word: string, all: readonly (readonly string[])[]): number {
  const at = all.findIndex((words) => words.slice(1).includes(word));
  return at >= 0 ? at : all.findIndex(([name]) => name === word);
}

function generativeMetrics(scored: readonly Scored<AmberSample>[]): readonly Metric[] {
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, answer = '', error } of group) {
        const found = things(sample, answer);
        const wrong = found.filter(({ what }) => what === '!');
        add('answers', 1);
        add('nouns', found.length);
        add('wrong nouns', wrong.length);
        // What could not be asked is wrong, covers nothing, and was not tempted.
        add('sound answers', wrong.length === 0 && error === undefined ? 1 : 0);
        add('present', sample.present.length);
        add('covered', new Set(found.flatMap(({ what }) => (typeof what === 'number' ? [what] : []))).size);
        add('tempting', error === undefined ? sample.tempting.length : 0);
        add('tempted', new Set(wrong.map(({ word }) => placeOf(word, sample.tempting)).filter((at) => at >= 0)).size);
      }
    },
    values(sum) {
      const count = sum('answers');
      // AMBER's counters begin at 0.001, so that nothing is divided by 0.
      const percent = (part: string, whole: string): number => (sum(part) / (sum(whole) + 0.001)) * 100;
      return [
        { name: 'CHAIR', value: round(percent('wrong nouns', 'nouns'), 1), count, max: 100, lowerIsBetter: true },
        { name: 'cover', value: round(percent('covered', 'present'), 1), count, max: 100 },
        { name: 'hallucinating answers', value: round(100 - percent('sound answers', 'answers'), 1), count, max: 100, lowerIsBetter: true },
        { name: 'cognition', value: round(percent('tempted', 'tempting'), 1), count, max: 100, lowerIsBetter: true },
      ];
    },
  });
}

const from = 'github.com/junyangwang0410/AMBER (data/) and its images';
const shared = ['data/annotations.json|annotations.json'];

/** What a description covers and makes up. Wang et al. 2023, arXiv:2311.07397; 1004 images. */
export const amberGenerative: Task<AmberSample> = {
  name: 'amber-generative',
  about: 'describes images; what the description makes up (CHAIR, hallucinating answers, cognition) and covers',
  maxNewTokens: 512,
  ...published<AmberSample>(
    ['amber', 'AMBER'],
    [
      {
        layout: 'AMBER',
        files: [
          'data/query/query_generative.json|query_generative.json|data/query/query_all.json|query_all.json',
          ...shared,
          'data/relation.json|relation.json',
          'data/safe_words.txt|safe_words.txt',
          'image/|images/',
        ],
        from,
        read(found) {
          const [queries = '', annotations = '', relations = '', safeWords = '', images = ''] = [0, 1, 2, 3, 4].map((i) => found.one(i));
          return generativeSamples({ queries, annotations, relations, safeWords, images });
        },
      },
    ],
  ),
  prompt: questionAnd(''),
  score(sample, answer) {
    const found = things(sample, answer);
    const wrong = found.filter(({ what }) => what === '!').map(({ word }) => word);
    return { parsed: wrong.join(', '), score: wrong.length === 0 ? 1 : 0 };
  },
  aggregate: generativeMetrics,
};

const kinds: Readonly<Record<string, readonly [string, string]>> = {
  'discriminative-hallucination': ['existence', 'existence'],
  'discriminative-attribute-state': ['attribute', 'state'],
  'discriminative-attribute-number': ['attribute', 'number'],
  'discriminative-attribute-action': ['attribute', 'action'],
  'discriminative-relation': ['relation', 'relation'],
  relation: ['relation', 'relation'],
};

async function discriminativeSamples(queries: string, annotations: string, images: string): Promise<Sample[]> {
  const rows = await annotated(queries, annotations, (type) => type !== 'generative');
  return rows.map(({ id, image, query, annotation: { type, truth } }) => ({
    id,
    question: query,
    images: [join(images, image)],
    targets: truth.map((word) => word.toLowerCase()),
    category: kinds[type]?.[1] ?? type,
  }));
}

const widest = ['existence', 'attribute', 'relation'];
const widerOf = (category: string): string => Object.values(kinds).find(([, kind]) => kind === category)?.[0] ?? category;

/** Accuracy, and precision, recall and F1 of saying no, each rounded before the next is computed from it, as AMBER does. */
function discriminativeMetrics(scored: readonly Scored[]): readonly Metric[] {
  const present = new Set(scored.map(({ sample }) => sample.category));
  const groups = [
    'all',
    ...widest.filter((name) => [...present].some((kind) => widerOf(kind) === name)),
    ...['state', 'number', 'action'].filter((kind) => present.has(kind)),
  ];
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, parsed, score } of group) {
        for (const name of new Set(['all', widerOf(sample.category), sample.category])) {
          add(`${name} n`, 1);
          add(`${name} right`, score);
          if (parsed === 'No') add(`${name} said`, 1);
          if (sample.targets[0] === 'no') add(`${name} truth`, 1);
          if (sample.targets[0] === 'no' && parsed === 'No') add(`${name} both`, 1);
        }
      }
    },
    values: (sum) =>
      groups.flatMap((name) => {
        const count = sum(`${name} n`);
        // AMBER adds up three counters for attributes, each of which begins at 0.001.
        const start = name === 'attribute' ? 0.003 : 0.001;
        const percent = (part: string, whole: string): number =>
          round((sum(`${name} ${part}`) / (sum(`${name} ${whole}`) + start)) * 100, 1);
        const [precision, recall] = [percent('both', 'said'), percent('both', 'truth')];
        const least = name === 'existence' ? 0.001 : 0.0001;
        const f1 = round(((2 * (precision / 100) * (recall / 100)) / (precision / 100 + recall / 100 + least)) * 100, 1);
        const prefix = name === 'all' ? '' : `${name} `;
        return [
          { name: `${prefix}F1`, value: f1, count, max: 100 },
          { name: `${prefix}accuracy`, value: percent('right', 'n'), count, max: 100 },
          { name: `${prefix}precision`, value: precision, count, max: 100 },
          { name: `${prefix}recall`, value: recall, count, max: 100 },
        ];
      }),
  });
}

/** Yes and no about what is, how it is and how it stands to others. Wang et al. 2023, arXiv:2311.07397; 14216 questions. */
export const amberDiscriminative: Task = {
  name: 'amber-discriminative',
  about: 'yes/no about existence, attributes and relations; the answer has to be Yes or No and nothing else; F1 is of saying no',
  maxNewTokens: 16,
  ...published<Sample>(
    ['amber', 'AMBER'],
    [
      {
        layout: 'AMBER',
        files: [
          'data/query/query_discriminative.json|query_discriminative.json|data/query/query_all.json|query_all.json',
          ...shared,
          'image/|images/',
        ],
        from,
        read: (found) => discriminativeSamples(found.one(0), found.one(1), found.one(2)),
      },
    ],
  ),
  prompt: questionAnd('\nPlease answer yes or no.'),
  score: ({ targets }, answer) =>
    answer === 'Yes' || answer === 'No' ? verdict(answer, answer.toLowerCase() === targets[0]) : unparsed(answer),
  aggregate: discriminativeMetrics,
};
