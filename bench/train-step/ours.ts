import assert from 'node:assert/strict';
import { join } from 'node:path';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { Precision } from '../../src/train/precision.ts';
import type { StepInput } from '../../src/train/step.ts';
import { TowerFeatures } from '../../src/train/tower-features.ts';
import { cpuSeconds, print } from '../measure.ts';
import { featuresInput, imageProcessor, openRows, ownLimits, Training } from '../training.ts';

const [folder = '', stage = '', tokens = '', precision = 'float32'] = process.argv.slice(2);
const { model } = await loadCheckpoint(join(folder, tokens));
assert(model.visionTower);
const batches = openRows(folder, { file: `${stage}-${tokens}`, imageTokenId: model.config.imageTokenId ?? 0 });
const training = new Training(model, { stage, precision: precision as Precision, learningRate: 1e-4 });
// as in training on a CPU: what the frozen tower gives is kept, but here every image is new
const features = new TowerFeatures(model.visionTower, imageProcessor(model.visionTower.imageSize));
const [warmup, ...timed] = batches.map((rows) =>
  featuresInput(rows, (images) => features.encode(images), ownLimits(model, precision as Precision)),
);
const samples = batches.slice(1).flat().length;

/** Seconds of the steps, and of the cores in them. */
function measure(inputs: readonly StepInput[]): { seconds: number; cpu: number } {
  const [started, cpu] = [performance.now(), cpuSeconds()];
  for (const input of inputs) training.step(input);
  return { seconds: (performance.now() - started) / 1000, cpu: cpuSeconds() - cpu };
}

measure(warmup ? [warmup] : []);
const first = measure(timed);
const losses = [...training.losses];
const later = measure(timed);
const metrics = {
  throughput: samples / first.seconds,
  'CPU time': first.cpu / samples,
  'throughput, images seen before': samples / later.seconds,
};
print({ metrics, check: losses });
