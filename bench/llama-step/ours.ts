import { join } from 'node:path';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { trainStep } from '../../src/train/step.ts';
import { milliseconds, print } from '../measure.ts';

const [folder = ''] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
model.trainable();
const ids = Int32Array.from(openSafetensors(join(folder, 'data.safetensors')).tensor('ids').toArray() as BigInt64Array, Number);
const batch = { ids, labels: ids, lengths: new Array<number>(8).fill(256), rows: [] };
const input = { supervisedTokens: 8 * 255, batches: () => [batch] };
const parameters = new Map(model.namedParameters());
const optimizer = new AdamW([{ parameters, learningRate: 1e-3, weightDecay: 0.01 }], { betas: [0.9, 0.999], eps: 1e-8 });
const losses: number[] = [];
const step = (): void => {
  losses.push(trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 1 }).loss);
};
const metrics = { step: milliseconds(step, { times: 5, warmup: 2 }) };
print({ metrics, check: losses });
