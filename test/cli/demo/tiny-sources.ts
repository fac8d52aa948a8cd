import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import type { DemoOptions } from '../../../src/cli/demo/demo.ts';
import { visionTowers } from '../../../src/model/vision/index.ts';
import { Linear } from '../../../src/nn/linear.ts';
import { Generator } from '../../../src/tensor/random.ts';
import { writeSafetensors } from '../../../src/tensor/safetensors.ts';
import { build } from '../../../src/train/build.ts';
import { parseRecipe } from '../../../src/train/recipe.ts';
import { saveTrained } from '../../../src/train/save.ts';
import { tinyConnectors, tinyTowers } from '../../model/tiny-parts.ts';
import { drawings } from '../drawings.ts';

const kinds = [
  'cat',
  'dog',
  'cow',
  'owl',
  'bee',
  'ant',
  'fox',
  'pig',
  'hen',
  'car',
  'bus',
  'hat',
  'key',
  'cup',
  'pen',
  'saw',
  'tree',
  'moon',
  'star',
  'boat',
];
const colours = ['red', 'green', 'blue', 'black'];

/** Draws stamps with captions as the Debian package has them: two pictures a kind, one of them vectors, and some that are to be left out. */
async function drawStamps(folder: string): Promise<string> {
  const root = join(folder, 'usr/share/tuxpaint/stamps');
  const write = async (name: string, caption: string, drawing: string, ending: string): Promise<void> => {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60">${drawing}</svg>`;
    await mkdir(dirname(join(root, name)), { recursive: true });
    if (ending === '.svg') await writeFile(`${join(root, name)}.svg`, svg);
    else
      await sharp(Buffer.from(svg))
        .png()
        .toFile(`${join(root, name)}.png`);
    await writeFile(`${join(root, name)}.txt`, `${caption}\nfr.utf8=Autre chose.\n`);
  };
  for (const [i, kind] of kinds.entries()) {
    for (const [j, ending] of ['.png', '.svg'].entries()) {
      const colour = colours[(i + j) % colours.length] ?? 'red';
      // bars at other places for every picture, so that none looks like another
      const bars = Array.from(
        { length: 5 },
        (_, k) =>
          `<rect x="${(i * 31 + k * 17 + j * 47) % 80}" y="${(i * 13 + k * 23 + j * 29) % 50}" width="${6 + ((i + k) % 9)}" height="${4 + ((i * k + j) % 12)}" fill="${colour}"/>`,
      );
      await write(`things/${kind}-${colour}`, `A ${colour} ${kind}.`, bars.join(''), ending);
    }
  }
  await write('things/remark', 'Say cheese!', '<rect width="9" height="9"/>', '.png');
  await write('symbols/letter', 'The letter A.', '<rect width="9" height="9"/>', '.png');
  return folder;
}

/** Parts as small as can be in the places of the demo's, and pictures drawn here. */
export async function tinySources(): Promise<{ root: string; sources: DemoOptions['sources'] }> {
  const root = await mkdtemp(join(tmpdir(), 'tinyllava-demo-'));
  const stage = { repeats: 1, kernel: 3, stride: 2, expand: 1, channels: 4 };
  const towerConfig = { image_size: 224, stem_channels: 4, stages: [stage, stage, stage, stage], hidden_size: 8 };
  const { 'efficientnet-lite': kind } = visionTowers;
  const settings = { type: 'efficientnet-lite', imageSize: 224, stemChannels: 4, stages: towerConfig.stages, hiddenSize: 8 };
  const generator = new Generator(0);
  const tower = kind.create(kind.parse(settings, 'tower'), undefined).initialize(generator);
  const classifier = new Linear(8, 1000).initialize(generator);
  const towerFile = join(root, 'tower.safetensors');
  writeSafetensors(towerFile, [...tower.namedParameters(), ...classifier.namedParameters('_fc.')]);
  const names = join(root, 'names.json');
  await writeFile(names, JSON.stringify(Array.from({ length: 1000 }, (_, i) => `${kinds[i % kinds.length]} (number ${i}) / other`)));
  const language = join(root, 'language');
  await writeLanguageModel(language);
  const stamps = await drawStamps(join(root, 'stamps'));
  const easyVqa = await drawings({ train: 30, test: 10 });
  return { root, sources: { tower: towerFile, towerConfig, language, names, stamps, easyVqa } };
}

/** A tiny model with a tokenizer that knows every template's tokens. Its tower and connector are not used. */
export async function writeLanguageModel(checkpoint: string): Promise<void> {
  const recipe = parseRecipe({
    model: {
      vision: { ...tinyTowers['efficientnet-lite'], imageSize: 16 },
      connector: tinyConnectors['class-words'].settings,
      language: { type: 'llama', hiddenSize: 8, intermediateSize: 12, numHiddenLayers: 1, numAttentionHeads: 2, tieWordEmbeddings: true },
    },
    processor: { tokenizer: { from: join(import.meta.dirname, '../../reference/processor-tokenizer-byte-level') } },
    stages: [
      {
        name: 'none',
        learns: { connector: 'full' },
        data: { conversations: 'none' },
        template: 'chatml',
        optimizer: { learningRate: 1e-3 },
        batchSize: 1,
        steps: 1,
      },
    ],
  });
  const { model, processorFor } = await build(recipe, { root: '.', device: 'cpu' });
  for (const stage of recipe.stages) await saveTrained(checkpoint, { model, processor: processorFor(stage), recipe });
}
