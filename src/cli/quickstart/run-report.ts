import type { ReportData, ReportFact, ReportPart } from '../../evaluate/html/data.ts';
import { count, duration } from '../../evaluate/html/format.ts';
import { drawSamples, embedImages } from '../../evaluate/html/from-results.ts';
import type { TinyLlava } from '../../model/tinyllava.ts';
import { threads } from '../../tensor/device.ts';
import { writeRecipe } from '../../train/recipe-file.ts';
import type { FinishedRun } from './quickstart.ts';
import { environmentFacts, fact } from './report-facts.ts';

const drawnImages = 48;
const wrongImages = 48;

/** Settings as they stand in the recipe; parts of other kinds lack some of them. */
function setting(config: object | undefined, name: string): string {
  const value = Object.entries(config ?? {}).find(([key]) => key === name)?.[1];
  return Array.isArray(value) ? value.join(', ') : String(value ?? 'unknown');
}

function parts({ config, visionTower, connector, languageModel }: TinyLlava): ReportPart[] {
  const { vision, language } = config;
  return [
    {
      name: 'vision tower',
      about: `convolutions of ${setting(vision, 'stemChannels')} channels, each halving the side, then a transformer of depth ${setting(vision, 'numHiddenLayers')} and width ${setting(vision, 'hiddenSize')}`,
      parameters: visionTower?.parameterCount() ?? 0,
    },
    {
      name: 'connector',
      about: `${visionTower?.tokens} features to ${connector?.tokens(visionTower?.tokens ?? 0)} tokens: neighbours side by side, then ${setting(config.connector, 'layers')} layers`,
      parameters: connector?.parameterCount() ?? 0,
    },
    {
      name: 'language model',
      about: `a Llama of depth ${setting(language, 'numHiddenLayers')} and width ${setting(language, 'hiddenSize')} with ${setting(language, 'vocabSize')} words`,
      parameters: languageModel.parameterCount(),
    },
  ];
}

function flow({ visionTower, imageTokens, languageModel }: TinyLlava): ReportFact[] {
  const side = visionTower?.imageSize ?? 0;
  return [
    fact('image', `${side} × ${side} pixels`),
    fact('vision tower', `${visionTower?.tokens} features of ${visionTower?.hiddenSize}`),
    fact('connector', `${imageTokens} tokens of ${languageModel.hiddenSize}`),
    fact('language model', 'image tokens, then the question'),
    fact('answer', 'a word'),
  ];
}

/** The page of a quickstart as data. Reads the images that it shows. */
export async function runReport(run: FinishedRun): Promise<ReportData> {
  const { options, recipe, training, trained, scored, asked, scores } = run;
  const { model } = trained;
  const { files, ...gallery } = drawSamples(scored, { seed: options.seed, drawn: drawnImages, wrong: wrongImages });
  const about: Readonly<Record<string, string>> = {
    align: `${count(training.captions)} captions such as “a blue rectangle”, one a drawing.`,
    instruct: `${count(training.questions)} questions with their answers, one at a time.`,
  };
  return {
    title: 'A tiny multimodal model answers questions about images',
    summary: `A vision tower, a connector and a language model learned together from nothing, on ${count(training.pictures)} drawings, in ${duration(trained.seconds)} on ${threads() === 1 ? 'one thread' : `${threads()} threads`} of a CPU. Then they were asked ${count(scores[0]?.count ?? 0)} questions about ${count(gallery.imagesInAll)} drawings that they had not seen.${options.extent.note === undefined ? '' : ` ${options.extent.note}`}`,
    scores,
    stages: trained.stages.map(({ name, steps }) => ({
      name,
      about: about[name] ?? '',
      losses: steps.map(({ step, seconds, loss }) => ({ step, seconds, loss })),
    })),
    curve: run.curve,
    asked,
    ...gallery,
    images: await embedImages([...files, ...asked.map(({ image }) => image)]),
    flow: flow(model),
    parts: parts(model),
    facts: [
      fact('data', 'easy-VQA 1.0, MIT licence'),
      fact('drawings to learn from', training.pictures),
      fact('drawings held out for the curve', training.heldOut.size),
      fact('captions', training.captions),
      fact('questions', training.questions),
      ...trained.stages.map(({ name, steps, seconds }) => fact(`stage ${name}`, `${count(steps.length)} steps, ${duration(seconds)}`)),
      fact('test questions', scores[0]?.count ?? 0),
      fact('evaluation', duration(run.evaluationSeconds)),
    ],
    environment: environmentFacts(options.seed),
    recipe: writeRecipe(recipe),
    reproduce: options.command,
  };
}
