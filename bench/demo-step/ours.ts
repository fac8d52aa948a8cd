import assert from 'node:assert/strict';
import { join } from 'node:path';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { trainStep } from '../../src/train/step.ts';
import { TowerFeatures } from '../../src/train/tower-features.ts';
import { milliseconds, print } from '../measure.ts';

const [folder = '', stage = ''] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
const { visionTower } = model;
assert(visionTower);
model.connector?.trainable();
if (stage === 'instruct') model.languageModel.trainable();

const data = openSafetensors(join(folder, 'data.safetensors'));
const integers = (name: string): number[] => Array.from(data.tensor(name).toArray() as BigInt64Array, Number);
const [captions, captionLengths] = [integers('captions'), integers('lengths')];
const room = captions.length / captionLengths.length;
const image = new Array<number>(model.imageTokens).fill(model.config.imageTokenId ?? 0);
const sequences = captionLengths.map((length, i) => [...image, ...captions.slice(room * i, room * i + length)]);
const ids = Int32Array.from(sequences.flat());
const half: [number, number, number] = [0.5, 0.5, 0.5];
const processor = new ImageProcessor({ size: { height: 224, width: 224 }, mean: half, std: half });
const images = data
  .tensor('pixels')
  .unbind(0)
  .map((pixels) => pixels.toArray() as Uint8Array);
// as in training: what the frozen tower gives is looked up by the pixels' digest
const features = new TowerFeatures(visionTower, processor);
function* batches() {
  const towerFeatures = features.encode(images);
  yield {
    ids,
    labels: ids.map((id) => (id === model.config.imageTokenId ? -100 : id)),
    lengths: sequences.map(({ length }) => length),
    towerFeatures,
    rows: [],
  };
  towerFeatures.free();
}
const input = { supervisedTokens: captionLengths.reduce((sum, length) => sum + length, 0), batches };
const parameters = new Map([...model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad));
const optimizer = new AdamW([{ parameters, learningRate: 1e-4, weightDecay: 0 }], { betas: [0.9, 0.999], eps: 1e-8 });
const losses: number[] = [];
const step = (): void => {
  losses.push(trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 1 }).loss);
};
const metrics = { throughput: (1000 * sequences.length) / milliseconds(step, { times: 5, warmup: 2 }) };
print({ metrics, check: losses });
