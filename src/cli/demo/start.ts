import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { ClassWordsConnector } from '../../model/connector/class-words.ts';
import type { LanguageModel } from '../../model/language/language-model.ts';
import type { Tokenizer } from '../../processor/tokenizer.ts';
import { noGrad } from '../../tensor/autograd.ts';
import { indices } from '../../tensor/create.ts';
import { outliving, Scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { openWeights } from '../../tensor/weight-files.ts';
import { build } from '../../train/build.ts';
import { parseRecipe } from '../../train/recipe.ts';
import { saveTrained } from '../../train/save.ts';

/** What the demo starts from, all Apache-2.0 but for the names (MIT). */
export interface Sources {
  /** EfficientNet-Lite0's published weights with its classifier, a torch or safetensors file. */
  readonly tower: string;
  /** SmolLM2-135M-Instruct as GGUF, or another language model's file or folder. */
  readonly language: string;
  /** The names of ImageNet's 1,000 classes in their order, a JSON list. */
  readonly names: string;
  /** Settings of another tower of the family, as its config.json has them. */
  readonly towerConfig?: object;
}

const Names = z.array(z.string().min(1)).length(1000);

/** EfficientNet-Lite was trained on values from about -1 to 1. */
const preprocessor = {
  image_processor_type: 'SiglipImageProcessor',
  do_resize: true,
  size: { height: 224, width: 224 },
  resample: 3,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [127 / 255, 127 / 255, 127 / 255],
  image_std: [128 / 255, 128 / 255, 128 / 255],
};

async function towerFolder(folder: string, { tower, towerConfig }: Sources): Promise<string> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...towerConfig, model_type: 'efficientnet_lite' }));
  await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify(preprocessor));
  await copyFile(tower, join(folder, tower.endsWith('.safetensors') ? 'model.safetensors' : 'pytorch_model.bin'));
  return folder;
}

/** The class names as they are said: "great white shark" of "great white shark (fish) / …". */
async function readNames(file: string): Promise<string[]> {
  try {
    const names = Names.parse(JSON.parse(await readFile(file, 'utf8')));
    return names.map((name) => (name.replace(/\s*\([^)]*\)/g, '').split('/')[0] ?? name).trim().toLowerCase());
  } catch (cause) {
    throw new DataError(`${file} does not hold the names of ImageNet's classes: ${(cause as Error).message}`, {
      hint: 'fetch the data again',
      cause,
    });
  }
}

/** The classes that a tower was trained to tell apart: `weight` [K, C] and `bias` [K] of its classifier, and what they are called. */
export interface Classes {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly names: readonly string[];
}

/** Opens the classifier of a tower's folder, as float32. Throws CheckpointError or DataError. */
export async function openClasses(tower: string, names: string): Promise<Classes> {
  const weights = openWeights(tower);
  const open = (name: string): Tensor => outliving(() => weights.tensor(name).cast('float32'));
  return { weight: open('_fc.weight'), bias: open('_fc.bias'), names: await readNames(names) };
}

/**
 * Begins the connector with the tower's classifier and the language model's embeddings of the names; what a name lacks stays zero. The perceptron
 * begins silent, so that what is learned first is to read the names.
 */
function speak(connector: ClassWordsConnector, language: LanguageModel, tokenizer: Tokenizer, { weight, bias, names }: Classes): void {
  using _scope = new Scope();
  noGrad(() => {
    connector.classifier.weight.copy_(weight);
    connector.classifier.bias.copy_(bias);
    const output = connector.mlp.layers.at(-1);
    output?.weight.zero_();
    output?.bias?.zero_();
    const spelled = connector.names.weight.zero_();
    for (let k = 0; k < spelled.size(0); k++) {
      const ids = tokenizer.encode(` ${names[k] ?? ''}`, { after: 'text' }).slice(0, spelled.size(1));
      spelled
        .select(0, k)
        .narrow(0, 0, ids.length)
        .copy_(language.embed(indices(ids)));
    }
  });
}

/** Where the tower alone lies, beside the checkpoint that begins with it. */
export const towerOf = (start: string): string => `${start}-tower`;

/** Puts tower, connector and language model together as a checkpoint that the recipe starts from. Throws CheckpointError or DataError. */
export async function writeStart(folder: string, sources: Sources): Promise<void> {
  const tower = await towerFolder(towerOf(folder), sources);
  const recipe = parseRecipe({
    model: { vision: { from: tower }, connector: { type: 'class-words' }, language: { from: sources.language } },
    // nothing is trained here, but a recipe says what for
    stages: [
      {
        name: 'start',
        learns: { connector: 'full' },
        data: { conversations: 'data/captions.json' },
        template: 'chatml',
        optimizer: { learningRate: 1e-3 },
        batchSize: 1,
        steps: 1,
      },
    ],
  });
  const { model, processorFor } = await build(recipe, { root: '.', device: 'cpu' });
  for (const stage of recipe.stages) {
    const processor = processorFor(stage);
    if (model.connector instanceof ClassWordsConnector) {
      speak(model.connector, model.languageModel, processor.tokenizer, await openClasses(tower, sources.names));
    }
    await saveTrained(folder, { model, processor, recipe });
  }
  for (const parameter of model.parameters()) parameter.free();
}
