import { join } from 'node:path';
import type { ReportData, ReportFact, ReportPart, ReportScore, ReportTable } from '../../evaluate/html/data.ts';
import { count, duration, percent } from '../../evaluate/html/format.ts';
import { embedImages } from '../../evaluate/html/from-results.ts';
import type { TinyLlava } from '../../model/tinyllava.ts';
import { threads } from '../../tensor/device.ts';
import { writeRecipe } from '../../train/recipe-file.ts';
import { environmentFacts, fact } from '../quickstart/report-facts.ts';
import type { CaptionTable, FinishedDemo } from './demo.ts';

const askedCount = 10;

/** The shares of right nouns as the page's first rows. */
const nounScores = (captions: readonly CaptionTable[]): ReportScore[] =>
  captions.map(({ name, model, baselines }) => ({
    name,
    count: model.count,
    correct: Math.round(model.noun.value * model.count),
    accuracy: model.noun,
    baselines: Object.fromEntries(Object.entries(baselines).map(([baseline, { noun }]) => [baseline, noun.value])),
  }));

function captionTable({ model, baselines }: CaptionTable): ReportTable {
  return {
    title: 'Captions',
    about:
      'The whole captions beside those of Tux Paint, by the metrics of COCO captions. CIDEr-D goes from 0 to 10 and weighs rare words most; the others go from 0 to 1.',
    head: ['captions', 'CIDEr-D', 'ROUGE-L', 'BLEU-1', 'right nouns'],
    rows: Object.entries({ model, ...baselines }).map(([name, scores]) => [
      name,
      scores.cider.toFixed(2),
      scores.rougeL.toFixed(3),
      scores.bleu1.toFixed(3),
      percent(scores.noun.value),
    ]),
  };
}

function shapeTable(shapes: readonly ReportScore[]): ReportTable {
  const baselines = [...new Set(shapes.flatMap((score) => Object.keys(score.baselines)))];
  return {
    title: 'Shapes and colours',
    about:
      'Right answers to questions of easy-VQA about drawings that were held out, beside answering without looking. They are a small part of what is learned from.',
    head: ['question type', 'questions', 'model', ...baselines],
    rows: shapes.map((score) => [
      score.name,
      count(score.count),
      percent(score.accuracy.value),
      ...baselines.map((name) => (score.baselines[name] === undefined ? '' : percent(score.baselines[name]))),
    ]),
  };
}

function parts({ visionTower, connector, languageModel }: TinyLlava): ReportPart[] {
  return [
    {
      name: 'vision tower',
      about: 'EfficientNet-Lite0, trained on ImageNet; it stays as it is',
      parameters: visionTower?.parameterCount() ?? 0,
    },
    {
      name: 'connector',
      about: "class words: the tower's own classifier, the names of its classes, and a perceptron",
      parameters: connector?.parameterCount() ?? 0,
    },
    { name: 'language model', about: 'SmolLM2-135M-Instruct', parameters: languageModel.parameterCount() },
  ];
}

function flow({ visionTower, connector, imageTokens, languageModel }: TinyLlava): ReportFact[] {
  const side = visionTower?.imageSize ?? 0;
  const words = imageTokens - Math.floor(Math.sqrt(imageTokens)) ** 2;
  return [
    fact('image', `${side} × ${side} pixels`),
    fact('vision tower', `${visionTower?.tokens} features of ${visionTower?.hiddenSize}`),
    fact('connector', `${words} words and ${imageTokens - words} tokens of ${connector ? languageModel.hiddenSize : 0}`),
    fact('language model', 'image tokens, then the question'),
    fact('answer', 'a caption'),
  ];
}

/** The page of a demo as data. Reads the pictures that it shows. */
export async function demoReport(run: FinishedDemo): Promise<ReportData> {
  const { options, recipe, data, trained, captions, shapes, samples, folder } = run;
  const { train, validation, test } = data.stamps;
  const [all] = captions;
  const about: Readonly<Record<string, string>> = {
    align: `${count(data.rows.captions)} pictures with their captions, four views of each stamp; the connector alone learns.`,
    instruct: `${count(data.rows.answers)} questions about pictures and ${count(data.rows.shapes)} conversations about shapes; connector and language model learn.`,
  };
  const placed = (sample: (typeof samples)[number]) => ({ ...sample, image: join(folder, 'data', sample.image) });
  const shown = samples.map(placed);
  return {
    title: 'A pre-trained multimodal model says what pictures show',
    summary: `EfficientNet-Lite0 and SmolLM2-135M-Instruct, put together and trained for ${duration(trained.seconds)} on ${threads() === 1 ? 'one thread' : `${threads()} threads`} of a CPU with ${count(train.length)} captioned pictures, then asked about ${count(test.length)} pictures of things of which they had seen no other picture.${options.extent.note === undefined ? '' : ` ${options.extent.note}`}`,
    scores: nounScores(captions),
    tables: [...(all ? [captionTable(all)] : []), shapeTable(shapes)],
    stages: trained.stages.map(({ name, steps }) => ({
      name,
      about: about[name] ?? '',
      losses: steps.map(({ step, seconds, loss }) => ({ step, seconds, loss })),
    })),
    curve: run.curve.map(({ seconds, scores }) => ({ seconds, scores: { all: scores['noun'] ?? 0 } })),
    asked: shown.slice(0, askedCount),
    samples: shown,
    drawn: 'all of them',
    imagesInAll: samples.length,
    photographs: true,
    images: await embedImages(shown.map(({ image }) => image)),
    flow: flow(trained.model),
    parts: parts(trained.model),
    facts: [
      fact('pictures', "Tux Paint's stamps, GPL-2+"),
      fact('shapes', 'easy-VQA 1.0, MIT licence'),
      fact('pictures to learn from', train.length),
      fact('pictures looked at while the recipe was made', validation.length),
      fact('pictures for the test', test.length),
      ...trained.stages.map(({ name, steps, seconds }) => fact(`stage ${name}`, `${count(steps.length)} steps, ${duration(seconds)}`)),
      fact('evaluation', duration(run.evaluationSeconds)),
    ],
    environment: environmentFacts(options.seed),
    recipe: writeRecipe(recipe),
    reproduce: options.command,
  };
}
