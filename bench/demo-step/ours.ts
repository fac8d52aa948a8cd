import assert from 'node:assert/strict';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { TowerFeatures } from '../../src/train/tower-features.ts';
import { milliseconds, print } from '../measure.ts';
import { featuresInput, imageProcessor, openRows, ownLimits, Training } from '../training.ts';

const [folder = '', stage = ''] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
assert(model.visionTower);
const rows = openRows(folder, { imageTokenId: model.config.imageTokenId ?? 0 }).flat();
// as in training: what the frozen tower gives is looked up by the pixels' digest
const features = new TowerFeatures(model.visionTower, imageProcessor(224));
const input = featuresInput(rows, (images) => features.encode(images), ownLimits(model, 'float32'));
const training = new Training(model, { stage, learningRate: 1e-4 });
const metrics = { throughput: (1000 * rows.length) / milliseconds(() => training.step(input), { times: 5, warmup: 2 }) };
print({ metrics, check: training.losses });
