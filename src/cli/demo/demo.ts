import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { evaluate } from '../../evaluate/evaluate.ts';
import type { CurvePoint, ReportSample, ReportScore } from '../../evaluate/html/data.ts';
import { reportScores } from '../../evaluate/html/from-results.ts';
import { report } from '../../evaluate/html/report.ts';
import { easyVqa } from '../../evaluate/tasks/easy-vqa.ts';
import { ChatModel, loadModel } from '../../generate/generate.ts';
import type { Log } from '../../log.ts';
import type { Recipe } from '../../train/recipe.ts';
import { readRecipe } from '../../train/recipe-file.ts';
import { type Trained, train } from '../../train/trainer.ts';
import { version } from '../../version.ts';
import { finishedFile, inRunFolder } from '../quickstart/run-folder.ts';
import { nounOf } from './caption.ts';
import { type CaptionScores, describeNothing, describePictures, type Said, scoreCaptions } from './captioning.ts';
import { captionQuestions, type DemoData, type DemoSources, type Picture, writeDemoData } from './data.ts';
import { demoReport } from './demo-report.ts';
import { classCaptions, nearestCaptions } from './looking.ts';
import { openClasses, type Sources, towerOf, writeStart } from './start.ts';

/** How much is done. */
export interface DemoExtent {
  /** Steps of each stage, those of the recipe unless said otherwise. */
  readonly steps: Readonly<Record<string, number>>;
  /** How often pictures of the validation set are described during the second stage. */
  readonly curvePoints: number;
  /** The first so many held-out pictures and questions of easy-VQA. */
  readonly pictures: number;
  readonly shapeQuestions: number;
  /** What to know about the scores. */
  readonly note?: string;
}

/** A whole run. */
export const whole: DemoExtent = { steps: {}, curvePoints: 4, pictures: Number.POSITIVE_INFINITY, shapeQuestions: 400 };

/** A run of a minute or two that shows that everything works and learns nothing. */
export const brief: DemoExtent = {
  steps: { align: 2, instruct: 2 },
  curvePoints: 1,
  pictures: 12,
  shapeQuestions: 20,
  note: 'This was a run of a few steps, which shows that everything works; its scores mean nothing.',
};

/** What to run and where. */
export interface DemoOptions {
  /** The folder of the run; it appears, or is replaced, when all is done. */
  readonly out: string;
  readonly sources: Sources & DemoSources;
  readonly seed: number;
  readonly extent: DemoExtent;
  /** The command that repeats it. */
  readonly command: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** The scores of one set of pictures: the model's, and those of less than the model. */
export interface CaptionTable {
  readonly name: string;
  readonly model: CaptionScores;
  /** The caption of the training picture that the tower finds nearest, the name of its likeliest class, and the model without a picture. */
  readonly baselines: Readonly<Record<'nearest caption' | "tower's class" | 'without picture', CaptionScores>>;
}

/** What came of it. */
export interface DemoResult {
  readonly out: string;
  readonly checkpoint: string;
  readonly report: string;
  readonly seed: number;
  readonly seconds: { readonly preparation: number; readonly training: number; readonly evaluation: number; readonly all: number };
  readonly captions: readonly CaptionTable[];
  /** easy-VQA's, by question type. */
  readonly shapes: readonly ReportScore[];
  readonly examples: readonly ReportSample[];
  readonly note?: string;
}

/** Everything that is known when the report is written. */
export interface FinishedDemo {
  readonly options: DemoOptions;
  readonly folder: string;
  readonly recipe: Recipe;
  readonly data: DemoData;
  readonly trained: Awaited<ReturnType<typeof train>>;
  readonly curve: readonly CurvePoint[];
  readonly captions: readonly CaptionTable[];
  readonly shapes: readonly ReportScore[];
  readonly samples: readonly ReportSample[];
  readonly evaluationSeconds: number;
}

const recipePath = fileURLToPath(new URL('../../../recipes/stamps.demo.yaml', import.meta.url));
const now = (): number => performance.now() / 1000;
const shapeOrder = ['all', 'shape', 'colour', 'yes/no'];
const exampleCount = 10;

/** The demo's recipe with the seed and, where they differ from its own, the steps. */
async function demoRecipe({ seed, steps }: { readonly seed: number; readonly steps: DemoExtent['steps'] }): Promise<Recipe> {
  const recipe = await readRecipe(recipePath);
  return { ...recipe, seed, stages: recipe.stages.map((stage) => ({ ...stage, steps: steps[stage.name] ?? stage.steps })) };
}

/**
 * Puts the pre-trained parts together, trains the two stages, describes held-out pictures with the saved checkpoint, scores that beside its
 * baselines and writes the page of the run. Throws the signal's reason when it is interrupted; nothing is left then.
 */
export async function demo(options: DemoOptions): Promise<DemoResult> {
  const { out, seed, extent, sources, log, signal } = options;
  const start = now();
  return inRunFolder(out, async (folder) => {
    const data = await writeDemoData(sources, join(folder, 'data'), { seed });
    signal.throwIfAborted();
    log({ event: 'data', captions: data.rows.captions, questions: data.rows.answers + data.rows.shapes });
    await writeStart(join(folder, 'start'), sources);
    signal.throwIfAborted();
    const prepared = now();
    const run = await trainAndEvaluate(folder, data, options);
    const { recipe, trained, evaluationSeconds, samples, captions, shapes, curve } = run;
    await writeFile(join(folder, 'report.html'), report(await demoReport(run)));
    const checkpoint = recipe.stages.at(-1)?.name ?? '';
    // half a gigabyte each, and made again by the same command
    for (const { name } of [{ name: 'start' }, { name: 'start-tower' }, ...recipe.stages.slice(0, -1)])
      await rm(join(folder, name), { recursive: true, force: true });
    const facts = {
      seed,
      ...(extent.note !== undefined && { note: extent.note }),
      seconds: { preparation: prepared - start, training: trained.seconds, evaluation: evaluationSeconds, all: now() - start },
      captions,
      shapes,
    };
    const placed = (sample: ReportSample, place: string): ReportSample => ({ ...sample, image: join(place, 'data', sample.image) });
    const finished = { version, finished: new Date().toISOString(), ...facts, curve, samples };
    await writeFile(join(folder, finishedFile), `${JSON.stringify(finished, null, 2)}\n`);
    return {
      out,
      checkpoint: join(out, checkpoint),
      report: join(out, 'report.html'),
      ...facts,
      examples: samples.slice(0, exampleCount).map((sample) => placed(sample, out)),
    };
  });
}

async function trainAndEvaluate(folder: string, data: DemoData, options: DemoOptions): Promise<FinishedDemo> {
  const { seed, extent, sources, log, signal } = options;
  const recipe = await demoRecipe({ seed, steps: extent.steps });
  const last = recipe.stages.at(-1)?.name ?? '';
  const curve: CurvePoint[] = [];
  const validation = data.stamps.validation.slice(0, extent.pictures);
  const measure = async ({ model, processor }: Trained, seconds: number): Promise<void> => {
    const chat = new ChatModel(model, processor);
    try {
      const { noun } = scoreCaptions(validation, await describePictures(chat, join(folder, 'data'), validation, { signal }));
      curve.push({ seconds, scores: { noun: noun.value } });
      log({ event: 'curve', seconds, noun: noun.value });
    } finally {
      chat.free();
    }
  };
  const trained = await train(recipe, {
    out: folder,
    root: folder,
    log,
    signal,
    onStep: async ({ step, steps, stage, seconds }, model) => {
      const every = Math.max(1, Math.round(steps / extent.curvePoints));
      if (stage === last && (step % every === 0 || step === steps)) await measure(model, seconds);
    },
  });
  signal.throwIfAborted();
  const began = now();
  const chat = await loadModel(join(folder, last));
  try {
    const test = data.stamps.test.slice(0, extent.pictures);
    log({ event: 'evaluating', task: 'captions', samples: test.length });
    const said = await describePictures(chat, join(folder, 'data'), test, { log, signal });
    log({ event: 'evaluated', task: 'captions', samples: test.length });
    const captions = await captionTables(chat, { folder, test, said, train: data.stamps.train, names: sources.names });
    const shared = { batchSize: 32, limit: extent.shapeQuestions, out: folder, log, signal };
    const shapes = (await evaluate(chat, { ...shared, data: sources.easyVqa, tasks: [easyVqa] })).tasks[easyVqa.name];
    assert(shapes);
    return {
      options,
      folder,
      recipe,
      data,
      trained,
      curve,
      captions,
      shapes: reportScores(shapes, { order: shapeOrder }),
      samples: test.map((picture, i) => sampleOf(picture, said[i] ?? '', data.stamps.train)),
      evaluationSeconds: now() - began,
    };
  } finally {
    chat.free();
  }
}

/** Whether a picture's noun stands in a caption that was learned from. */
const taught = (train: readonly Picture[]): ((picture: Picture) => boolean) => {
  const nouns = new Set(train.map(({ noun }) => noun));
  return ({ noun }) => nouns.has(noun);
};

function sampleOf(picture: Picture, said: string, train: readonly Picture[]): ReportSample {
  return {
    image: picture.image,
    question: captionQuestions[0],
    answer: said,
    truth: picture.caption,
    type: taught(train)(picture) ? 'noun taught' : 'noun never taught',
    correct: nounOf(said) === picture.noun,
  };
}

async function captionTables(
  chat: ChatModel,
  {
    folder,
    test,
    said,
    train,
    names,
  }: Readonly<Record<'folder' | 'names', string>> & Readonly<Record<'test' | 'train', readonly Picture[]>> & { readonly said: Said },
): Promise<CaptionTable[]> {
  const { visionTower: tower } = chat.model;
  assert(tower);
  const looking = { tower, image: chat.processor.image, folder: join(folder, 'data') };
  const classes = await openClasses(towerOf(join(folder, 'start')), names);
  const less = {
    'nearest caption': await nearestCaptions(looking, test, train),
    "tower's class": await classCaptions(looking, test, classes),
    'without picture': await describeNothing(chat, test),
  };
  for (const tensor of [classes.weight, classes.bias]) tensor.free();
  const isTaught = taught(train);
  const sets: readonly (readonly [string, (picture: Picture) => boolean])[] = [
    ['all', () => true],
    ['noun taught', isTaught],
    ['noun never taught', (picture) => !isTaught(picture)],
  ];
  return sets.map(([name, belongs]) => {
    const part = test.filter(belongs);
    const score = (all: Said): CaptionScores =>
      scoreCaptions(
        part,
        all.filter((_, i) => belongs(test[i] as Picture)),
        test,
      );
    const { 'nearest caption': nearest, "tower's class": seen, 'without picture': blind } = less;
    return {
      name,
      model: score(said),
      baselines: { 'nearest caption': score(nearest), "tower's class": score(seen), 'without picture': score(blind) },
    };
  });
}
