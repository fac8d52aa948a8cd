import { join } from 'node:path';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { trainStep } from '../../src/train/step.ts';
import { milliseconds, print } from '../measure.ts';

const [folder = '', stage = ''] = process.argv.slice(2);
const { model } = await loadCheckpoint(folder);
model.connector?.trainable();
if (stage === 'instruct') model.languageModel.trainable();

const data = openSafetensors(join(folder, 'data.safetensors'));
const integers = (name: string): number[] => Array.from(data.tensor(name).toArray() as BigInt64Array, Number);
const [captions, captionLengths] = [integers('captions'), integers('lengths')];
const image = new Array<number>(model.imageTokens).fill(model.config.imageTokenId ?? 0);
const sequences = captionLengths.map((length, i) => [...image, ...captions.slice(50 * i, 50 * i + length)]);
const ids = Int32Array.from(sequences.flat());
const batch = {
  ids,
  labels: ids.map((id) => (id === model.config.imageTokenId ? -100 : id)),
  lengths: sequences.map(({ length }) => length),
  pixels: data.tensor('pixels'),
  rows: [],
};
const input = { supervisedTokens: captionLengths.reduce((sum, length) => sum + length, 0), batches: () => [batch] };
const parameters = new Map([...model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad));
const optimizer = new AdamW([{ parameters, learningRate: 1e-3, weightDecay: 0 }], { betas: [0.9, 0.999], eps: 1e-8 });
const losses: number[] = [];
const step = (): void => {
  losses.push(trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 1 }).loss);
};
const metrics = { throughput: (1000 * sequences.length) / milliseconds(step, { times: 5, warmup: 2 }) };
print({ metrics, check: losses });
