import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { milliseconds, print } from '../measure.ts';
import { imageProcessor, openRows, pixelsInput, Training } from '../training.ts';

const [folder = '', stage = ''] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
const rows = openRows(folder, { imageTokenId: model.config.imageTokenId ?? 0 }).flat();
const input = pixelsInput(rows, imageProcessor(224));
const training = new Training(model, { stage, learningRate: 1e-3 });
const metrics = { throughput: (1000 * rows.length) / milliseconds(() => training.step(input), { times: 5, warmup: 2 }) };
print({ metrics, check: training.losses });
