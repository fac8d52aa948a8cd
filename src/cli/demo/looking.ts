import { join } from 'node:path';
import type { VisionTower } from '../../model/vision/vision-tower.ts';
import type { ImageProcessor } from '../../processor/image.ts';
import { noGrad } from '../../tensor/autograd.ts';
import { cat } from '../../tensor/create.ts';
import { linear } from '../../tensor/functional.ts';
import { outliving, Scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { withArticle } from './caption.ts';
import type { Said } from './captioning.ts';
import type { Picture } from './data.ts';
import type { Classes } from './start.ts';

/** What looks at pictures, without a language model. */
export interface Looking {
  readonly tower: VisionTower;
  readonly image: ImageProcessor;
  /** Where the pictures are. */
  readonly folder: string;
}

const together = 8;

/** The mean feature of each picture, [P, C] in float32, which no scope frees. */
async function meanFeatures({ tower, image, folder }: Looking, pictures: readonly Picture[]): Promise<Tensor> {
  const means: Tensor[] = [];
  for (let start = 0; start < pictures.length; start += together) {
    const loaded = await Promise.all(
      pictures.slice(start, start + together).map((picture) => image.loadBytes(join(folder, picture.image))),
    );
    using scope = new Scope();
    const [weight] = tower.parameters();
    const pixels = image.stack(loaded).cast(weight?.dtype ?? 'float32');
    means.push(Scope.release(scope.keep(noGrad(() => tower.forward(pixels).mean(1).cast('float32')))));
  }
  const all = outliving(() => cat(means));
  for (const mean of means) mean.free();
  return all;
}

const numbers = (tensor: Tensor): number[] => Array.from(tensor.toArray() as BigInt64Array, Number);

/** The caption of the training picture whose features are nearest by their angle: what remembering gives. */
export async function nearestCaptions(looking: Looking, pictures: readonly Picture[], train: readonly Picture[]): Promise<Said> {
  const known = await meanFeatures(looking, train);
  const asked = await meanFeatures(looking, pictures);
  try {
    using _scope = new Scope();
    const direction = known.div(known.square().sum(1, { keepDim: true }).sqrt());
    return numbers(asked.matmul(direction.t()).argmax(1)).map((index) => train[index]?.caption ?? '');
  } finally {
    known.free();
    asked.free();
  }
}

/** The name of the likeliest of the classes that the tower was trained to tell apart: what recognising gives, without a word from a caption. */
export async function classCaptions(looking: Looking, pictures: readonly Picture[], { weight, bias, names }: Classes): Promise<Said> {
  const asked = await meanFeatures(looking, pictures);
  try {
    using _scope = new Scope();
    return numbers(linear(asked, weight, bias).argmax(1)).map((index) => {
      const caption = withArticle(names[index] ?? '') ?? names[index] ?? '';
      return `${caption.charAt(0).toUpperCase()}${caption.slice(1)}.`;
    });
  } finally {
    asked.free();
  }
}
