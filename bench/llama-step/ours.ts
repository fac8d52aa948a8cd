import { join } from 'node:path';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { milliseconds, print } from '../measure.ts';
import { Training } from '../training.ts';

const [folder = ''] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
const ids = Int32Array.from(openSafetensors(join(folder, 'data.safetensors')).tensor('ids').toArray() as BigInt64Array, Number);
const batch = { ids, labels: ids, lengths: new Array<number>(8).fill(256), rows: [] };
const input = { supervisedTokens: 8 * 255, batches: () => [batch] };
const training = new Training(model, { stage: 'whole', learningRate: 1e-3, weightDecay: 0.01 });
print({ metrics: { step: milliseconds(() => training.step(input), { times: 5, warmup: 2 }) }, check: training.losses });
