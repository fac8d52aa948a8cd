import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { Precision } from '../../src/train/precision.ts';
import { milliseconds, print } from '../measure.ts';
import { imageProcessor, openRows, pixelsInput, Training } from '../training.ts';

const [folder = '', stage = '', precision = 'float32'] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
const rows = openRows(folder, { imageTokenId: model.config.imageTokenId ?? 0 }).flat();
const input = pixelsInput(rows, imageProcessor(224));
const training = new Training(model, { stage, precision: precision as Precision, learningRate: 1e-4 });
const metrics = { throughput: (1000 * rows.length) / milliseconds(() => training.step(input), { times: 7, warmup: 3 }) };
print({ metrics, check: training.losses });
