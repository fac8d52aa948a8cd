// One phase of bench/full-size.ts in a process of its own, so that its peak of memory is its own.
//   npx tsx bench/full-size/phases.ts build|ask|train FOLDER TOWER LANGUAGE
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { loadModel } from '../../src/generate/generate.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { Processor } from '../../src/processor/processor.ts';
import { memory } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openData } from '../../src/train/build.ts';
import { parseRecipe, type Stage } from '../../src/train/recipe.ts';
import { saveTrained } from '../../src/train/save.ts';
import { runStage, type StepEvent } from '../../src/train/stage.ts';
import { caption, fullSize, type LanguageName, question, type TowerName } from './models.ts';

/** Where a model is, and which one it is. */
interface Place {
  readonly folder: string;
  readonly tower: TowerName;
  readonly language: LanguageName;
}

const seconds = async <T>(work: () => T | Promise<T>): Promise<[T, number]> => {
  const start = performance.now();
  const result = await work();
  return [result, (performance.now() - start) / 1000];
};
const pictureOf = (folder: string): string => join(`${folder}-data`, 'disc.png');

/** The first stage of LLaVA: the connector learns from captions. */
function align(folder: string): Stage & { readonly recipe: ReturnType<typeof parseRecipe> } {
  const recipe = parseRecipe({
    model: { from: folder },
    stages: [
      {
        name: 'align',
        learns: { connector: 'full' },
        data: { conversations: join(`${folder}-data`, 'captions.json') },
        template: 'plain',
        optimizer: { learningRate: 1e-3 },
        batchSize: 1,
        steps: 1,
      },
    ],
  });
  return { ...(recipe.stages[0] as Stage), recipe };
}

/** A disc on a table in 640 x 480 pixels, and a row that describes it. */
async function writeData(folder: string): Promise<void> {
  await mkdir(`${folder}-data`, { recursive: true });
  const drawing = `<svg xmlns="http://www.w3.org/2000/svg" width="640" height="480"><rect width="640" height="480" fill="#bcd9f0"/>
    <rect y="300" width="640" height="180" fill="#8a5a2b"/><circle cx="340" cy="240" r="110" fill="#f08a24" stroke="#4a2a0a" stroke-width="8"/></svg>`;
  await sharp(Buffer.from(drawing)).png().toFile(pictureOf(folder));
  const conversations = [
    { from: 'human', value: 'Describe the picture.\n<image>' },
    { from: 'gpt', value: caption },
  ];
  await writeFile(join(`${folder}-data`, 'captions.json'), JSON.stringify([{ id: 'disc', image: 'disc.png', conversations }]));
}

/** The size of all shards. */
async function weightBytes(folder: string): Promise<number> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.safetensors'));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Fresh weights in bfloat16, and a folder of them. */
async function build({ folder, tower, language }: Place): Promise<Record<string, number>> {
  await writeData(folder);
  const { model, processor } = fullSize(tower, language);
  const [, initializeSeconds] = await seconds(() => model.initialize(new Generator(0), { dtype: 'bfloat16' }));
  const [, saveSeconds] = await seconds(() => saveTrained(folder, { model, processor, recipe: align(folder).recipe }));
  return {
    parameters: model.parameterCount(),
    visionParameters: model.visionTower?.parameterCount() ?? 0,
    connectorParameters: model.connector?.parameterCount() ?? 0,
    languageParameters: model.languageModel.parameterCount(),
    imageTokens: model.imageTokens,
    fileBytes: await weightBytes(folder),
    initializeSeconds,
    saveSeconds,
  };
}

/** Opens the folder by memory map and answers in eight tokens, whatever a model that has learned nothing says. */
async function ask({ folder }: Place): Promise<Record<string, number>> {
  const [model, openSeconds] = await seconds(() => loadModel(folder, { mapped: true }));
  const messages = [{ role: 'user' as const, content: question }];
  const request = { messages, images: [pictureOf(folder)], maxNewTokens: 8, temperature: 0 };
  const [answer, answerSeconds] = await seconds(() => model.generate(request));
  return {
    openSeconds,
    promptTokens: answer.usage.promptTokens,
    newTokens: answer.usage.completionTokens,
    answerSeconds,
  };
}

/** Opens the folder by memory map and takes one step over one caption: the connector moves, the rest does not. */
async function train({ folder }: Place): Promise<Record<string, number>> {
  const stage = align(folder);
  const [{ model }, openSeconds] = await seconds(() => loadCheckpoint(folder, { mapped: true }));
  const processor = (await Processor.open(folder, { imageTokens: model.imageTokens })).withTemplate('plain');
  using data = await openData(stage.data, '.');
  const before = Array.from(model.parameters(), (tensor) => tensor.sum().item());
  const steps: StepEvent[] = [];
  const onStep = (event: StepEvent): void => void steps.push(event);
  await runStage(
    { stage, model, processor, data },
    { seed: 0, precision: 'bfloat16', secondsBefore: 0, workers: 1, log: () => {}, onStep },
  );
  const after = Array.from(model.parameters(), (tensor) => tensor.sum().item());
  const moved = Array.from(model.namedParameters(), ([key]) => key).filter((_, i) => before[i] !== after[i]);
  if (moved.length === 0 || moved.some((key) => !key.includes('multi_modal_projector'))) throw new Error(`moved: ${moved.join(', ')}`);
  const [step] = steps;
  if (!step || !(step.loss > 0)) throw new Error(`the step's loss is ${step?.loss}`);
  const { loss, gradNorm, tokens, supervisedTokens } = step;
  return { openSeconds, stepSeconds: step.seconds, tokens, supervisedTokens, loss, gradNorm };
}

const phases = { build, ask, train };
const [phase = '', folder = '', tower = '', language = ''] = process.argv.slice(2);
const result = await phases[phase as keyof typeof phases]({ folder, tower: tower as TowerName, language: language as LanguageName });
console.log(JSON.stringify({ ...result, peakBytes: memory().peakRssBytes }));
