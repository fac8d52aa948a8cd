import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { evaluate } from '../../evaluate/evaluate.ts';
import type { CurvePoint, ReportSample, ReportScore } from '../../evaluate/html/data.ts';
import { reportSample, reportScores } from '../../evaluate/html/from-results.ts';
import { report } from '../../evaluate/html/report.ts';
import { readSamples } from '../../evaluate/samples-file.ts';
import type { Scored } from '../../evaluate/task.ts';
import { easyVqa } from '../../evaluate/tasks/easy-vqa.ts';
import { loadModel } from '../../generate/generate.ts';
import type { Log } from '../../log.ts';
import type { Recipe } from '../../train/recipe.ts';
import { train } from '../../train/trainer.ts';
import { version } from '../../version.ts';
import { type Extent, quickstartRecipe, type TrainingData, writeTrainingData } from './plan.ts';
import { Curve, curveSteps, fiveQuestions, heldOutSamples, scoredAnswers, slots } from './questions.ts';
import { finishedFile, inRunFolder } from './run-folder.ts';
import { runReport } from './run-report.ts';

/** What to run and where. */
export interface QuickstartOptions {
  /** The folder of the run; it appears, or is replaced, when all is done. */
  readonly out: string;
  /** The folder of easy-VQA. */
  readonly data: string;
  readonly seed: number;
  readonly extent: Extent;
  /** What the run sets out to reach, by question type. */
  readonly goals: Readonly<Record<string, number>>;
  /** The command that repeats it. */
  readonly command: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** What came of it. */
export interface QuickstartResult {
  readonly out: string;
  /** align.json, instruct.json and the splits of easy-VQA. */
  readonly data: string;
  readonly checkpoint: string;
  readonly report: string;
  readonly seed: number;
  readonly seconds: { readonly training: number; readonly evaluation: number; readonly all: number };
  readonly scores: readonly ReportScore[];
  readonly goalsReached: boolean;
  /** Their images are in `data`. */
  readonly asked: readonly ReportSample[];
  /** What to know about the scores. */
  readonly note?: string;
}

/** Everything that is known when the report is written. */
export interface FinishedRun {
  readonly options: QuickstartOptions;
  readonly recipe: Recipe;
  readonly training: TrainingData;
  readonly trained: Awaited<ReturnType<typeof train>>;
  readonly curve: readonly CurvePoint[];
  readonly scores: readonly ReportScore[];
  readonly scored: readonly Scored[];
  readonly asked: readonly ReportSample[];
  readonly evaluationSeconds: number;
}

const order = ['all', 'shape', 'colour', 'yes/no'];

/**
 * Turns easy-VQA into conversations, trains the two stages, evaluates the checkpoint on the test split, asks it five questions and writes the
 * page of the run. Throws the signal's reason when it is interrupted; nothing is left then.
 */
export async function quickstart(options: QuickstartOptions): Promise<QuickstartResult> {
  const { out, data, seed, extent } = options;
  const start = performance.now();
  return inRunFolder(out, async (folder) => {
    const { checkpoint, ...run } = await trainAndEvaluate(folder, options);
    await writeFile(join(folder, 'report.html'), report(await runReport(run)));
    const { scores, asked, curve, trained, evaluationSeconds } = run;
    const facts = {
      seed,
      ...(extent.note !== undefined && { note: extent.note }),
      seconds: { training: trained.seconds, evaluation: evaluationSeconds, all: (performance.now() - start) / 1000 },
      scores,
      goalsReached: scores.every(({ accuracy, goal }) => goal === undefined || accuracy.value >= goal),
    };
    const linked = asked.map(({ image, ...sample }) => ({ ...sample, image: join('data', relative(data, image)) }));
    const finished = { version, finished: new Date().toISOString(), ...facts, asked: linked, curve };
    await writeFile(join(folder, finishedFile), `${JSON.stringify(finished, null, 2)}\n`);
    return {
      out,
      data: join(out, 'data'),
      checkpoint: join(out, checkpoint),
      report: join(out, 'report.html'),
      ...facts,
      asked: linked.map(({ image, ...sample }) => ({ ...sample, image: join(out, image) })),
    };
  });
}

async function trainAndEvaluate(folder: string, options: QuickstartOptions): Promise<FinishedRun & { readonly checkpoint: string }> {
  const { data, seed, extent, log, signal } = options;
  const benchmark = await easyVqa.open(data);
  const training = await writeTrainingData(data, join(folder, 'data'), { seed });
  log({ event: 'data', ...training, heldOut: training.heldOut.size });
  const recipe = await quickstartRecipe({ seed, steps: extent.steps });
  const checkpoint = recipe.stages.at(-1)?.name ?? '';
  const curve = new Curve(heldOutSamples(benchmark.train ?? [], training.heldOut, { seed, count: extent.curveQuestions }), { log, signal });
  const trained = await train(recipe, {
    out: folder,
    root: folder,
    log,
    signal,
    onStep: async ({ step, steps, stage, seconds }, model) => {
      if (stage === checkpoint && curveSteps(steps, extent.curvePoints).has(step)) await curve.measure(model, seconds);
    },
  });
  signal.throwIfAborted();
  // What is on disk is what people will use, so that is what is evaluated.
  const model = await loadModel(join(folder, checkpoint));
  const settings = { data, batchSize: slots, limit: extent.testQuestions, out: folder, log, signal };
  const result = (await evaluate(model, { ...settings, tasks: [easyVqa] })).tasks[easyVqa.name];
  assert(result);
  const asked = await scoredAnswers(model, fiveQuestions(benchmark.samples, seed), signal);
  model.free();
  return {
    options,
    recipe,
    training,
    trained,
    curve: curve.points,
    scores: reportScores(result, { order, goals: options.goals }),
    scored: await readSamples(join(folder, `samples_${easyVqa.name}.jsonl`)),
    asked: asked.map(reportSample),
    evaluationSeconds: result.seconds ?? 0,
    checkpoint,
  };
}
