// Prints how many images a second the loader gives at full size, JPEGs of 1024 x 768 that are made on the spot, beside what training takes; and how long
// training waits for them.
//   npx tsx bench/loader.ts [--images N] [--threads N]
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { Dataset } from '../src/data/dataset.ts';
import { Loader } from '../src/data/loader.ts';
import { Random } from '../src/data/random.ts';
import { Sampler } from '../src/data/sampler.ts';
import { silent } from '../src/log.ts';
import { Processor } from '../src/processor/processor.ts';
import { splitWords, wordLevelTokenizer } from '../src/processor/word-level.ts';
import { setThreads, threads } from '../src/tensor/device.ts';
import { parseRecipe, type RecipeInput, type Stage } from '../src/train/recipe.ts';
import { runStage } from '../src/train/stage.ts';
import { processor as cpu } from './machine.ts';
import { cpuSeconds } from './measure.ts';
import { smolLlava, towers } from './smol-llava.ts';
import { imageProcessor } from './training.ts';

const { values } = parseArgs({ options: { images: { type: 'string', default: '64' }, threads: { type: 'string', default: '2' } } });
setThreads(Number(values.threads));
const batchSize = 8;
const caption = 'an orange disc with a dark rim on a pale blue ground, its shadow falling to the left across a wooden table in the evening';
type ImageTokens = keyof typeof towers;

/** Photograph-like JPEGs, each of its own, and a row for each. */
async function writeData(folder: string, images: number): Promise<string> {
  const random = new Random(1);
  const rows = [];
  for (let i = 0; i < images; i++) {
    const data = Uint8Array.from({ length: 3 * 128 * 96 }, () => random.below(256));
    const raw = { width: 128, height: 96, channels: 3 } as const;
    await sharp(data, { raw })
      .resize(1024, 768, { kernel: 'cubic' })
      .jpeg({ quality: 90 })
      .toFile(join(folder, `${i}.jpg`));
    const conversations = [
      { from: 'human', value: '<image>' },
      { from: 'gpt', value: caption },
    ];
    rows.push({ id: String(i), image: `${i}.jpg`, conversations });
  }
  const file = join(folder, 'rows.json');
  writeFileSync(file, JSON.stringify(rows));
  return file;
}

function processorOf(tokens: ImageTokens): Processor {
  const tokenizer = wordLevelTokenizer(splitWords(`${caption} USER: ASSISTANT:`));
  return new Processor({ tokenizer, image: imageProcessor(towers[tokens].imageSize), template: 'plain', imageTokens: tokens });
}

/** Images a second, and seconds of the cores for each, where nothing else is done. */
async function loading(rows: Dataset, tokens: ImageTokens): Promise<{ rate: number; cpu: number }> {
  const sampler = new Sampler({ parts: rows.parts, batchSize, seed: 1 });
  await using loader = new Loader({ rows, processor: processorOf(tokens), sampler, microBatch: { examples: batchSize }, cacheBytes: 0 });
  // the first step has the threads started
  await loader.next();
  const [started, before] = [performance.now(), cpuSeconds()];
  let images = 0;
  for (; images < rows.length - batchSize; images += batchSize) await loader.next();
  return { rate: (1000 * images) / (performance.now() - started), cpu: (cpuSeconds() - before) / images };
}

const written = (name: string, learns: RecipeInput['stages'][number]['learns']): RecipeInput['stages'][number] => ({
  name,
  learns,
  data: { conversations: 'rows.json' },
  template: 'plain',
  optimizer: { learningRate: 1e-4 },
  batchSize,
  epochs: 1,
});
const { stages } = parseRecipe({
  model: { from: 'model' },
  stages: [written('align', { connector: 'full' }), written('instruct', { connector: 'full', language: 'full' })],
});

/** Samples a second of a whole epoch as the trainer runs it, and the share of its time behind the first step that it waited for data. */
async function training(data: Dataset, stage: Stage, tokens: ImageTokens): Promise<{ rate: number; waited: number }> {
  const model = smolLlava(tokens);
  const options = { seed: 1, precision: 'bfloat16', secondsBefore: 0, log: silent, onStep: () => undefined } as const;
  const { steps, features } = await runStage({ stage, model, processor: processorOf(tokens), data }, options);
  features?.free();
  for (const parameter of model.parameters()) parameter.free();
  const [first, ...others] = steps;
  const seconds = (others.at(-1)?.seconds ?? Number.NaN) - (first?.seconds ?? 0);
  const waited = others.reduce((sum, { waitedSeconds }) => sum + waitedSeconds, 0);
  return { rate: (others.length * batchSize) / seconds, waited: waited / seconds };
}

console.log(`# Loading at full image size

${cpu().name}, ${threads()} threads. JPEGs of 1024 x 768, decoded and resized off the main thread and none twice; a LLaVA of SmolLM2-135M's shape with a SigLIP-base tower in
bfloat16, in batches of ${batchSize} captions.

| image tokens | loader alone, images/s | milliseconds of a core, an image | stage | training, samples/s | loader by training | of a step waiting for data |
|---|---|---|---|---|---|---|`);
const folder = mkdtempSync(join(import.meta.dirname, '../build/loader-'));
try {
  using data = await Dataset.open(await writeData(folder, Number(values.images)));
  for (const tokens of [196, 729] as const) {
    const alone = await loading(data, tokens);
    for (const stage of stages) {
      const { rate, waited } = await training(data, stage, tokens);
      const cells = [alone.rate.toFixed(0), (1000 * alone.cpu).toFixed(1), stage.name, rate.toFixed(2), (alone.rate / rate).toFixed(1)];
      console.log(`| ${tokens} | ${cells.join(' | ')} | **${(100 * waited).toFixed(2)} %** |`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
