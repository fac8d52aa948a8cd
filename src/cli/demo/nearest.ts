import { join } from 'node:path';
import type { VisionTower } from '../../model/vision/vision-tower.ts';
import type { ImageProcessor } from '../../processor/image.ts';
import { noGrad } from '../../tensor/autograd.ts';
import { cat } from '../../tensor/create.ts';
import { outliving, Scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Said } from './captioning.ts';
import type { Picture } from './data.ts';

const together = 8;

/** The mean feature of each picture, of length 1: [P, C]. */
async function meanFeatures(tower: VisionTower, image: ImageProcessor, files: readonly string[]): Promise<Tensor> {
  const means: Tensor[] = [];
  for (let start = 0; start < files.length; start += together) {
    const loaded = await Promise.all(files.slice(start, start + together).map((file) => image.loadBytes(file)));
    using scope = new Scope();
    const [weight] = tower.parameters();
    const pixels = image.stack(loaded).cast(weight?.dtype ?? 'float32');
    const mean = noGrad(() => tower.forward(pixels).mean(1).cast('float32'));
    means.push(Scope.release(scope.keep(mean.div(mean.square().sum(1, { keepDim: true }).sqrt()))));
  }
  const all = outliving(() => cat(means));
  for (const mean of means) mean.free();
  return all;
}

/** The caption of the training picture whose features are nearest by their angle: what looking without language gives. */
export async function nearestCaptions(
  { tower, image, folder }: { readonly tower: VisionTower; readonly image: ImageProcessor; readonly folder: string },
  pictures: readonly Picture[],
  train: readonly Picture[],
): Promise<Said> {
  const files = (list: readonly Picture[]): string[] => list.map((picture) => join(folder, picture.image));
  const known = await meanFeatures(tower, image, files(train));
  const asked = await meanFeatures(tower, image, files(pictures));
  try {
    using _scope = new Scope();
    const nearest = asked.matmul(known.t()).argmax(1).toArray() as BigInt64Array;
    return Array.from(nearest, (index) => train[Number(index)]?.caption ?? '');
  } finally {
    known.free();
    asked.free();
  }
}
