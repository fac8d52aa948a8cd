// Prints how much of the machine's measured matmul peak training reaches by the flops that the model needs, in float32 and bfloat16: steps of the second stage
// of a LLaVA of SmolLM2-135M's shape on packed rows of 512 tokens, every image new.
//   npx tsx bench/mfu.ts [--rows N] [--threads N]
import { parseArgs } from 'node:util';
import { countModel } from '../scripts/scaling/counts.ts';
import { rowWork, workOf } from '../scripts/scaling/flops.ts';
import { supervisedTokens } from '../src/data/batch.ts';
import { randn } from '../src/tensor/create.ts';
import { setThreads, threads } from '../src/tensor/device.ts';
import { Generator } from '../src/tensor/random.ts';
import { Scope } from '../src/tensor/scope.ts';
import type { Precision } from '../src/train/precision.ts';
import { batchLoss } from '../src/train/step.ts';
import { TowerFeatures } from '../src/train/tower-features.ts';
import { processor } from './machine.ts';
import { milliseconds } from './measure.ts';
import { instructed, randomRows, smolLlava } from './smol-llava.ts';
import { featuresInput, imageProcessor, ownLimits, Training } from './training.ts';

const { values } = parseArgs({ options: { rows: { type: 'string', default: '4' }, threads: { type: 'string', default: '2' } } });
setThreads(Number(values.threads));
const rowTokens = 512;
const precisions = ['float32', 'bfloat16'] as const satisfies readonly Precision[];

/** Flops a second of the fastest product of large square matrices. */
function peak(dtype: (typeof precisions)[number]): number {
  const rates = [1024, 2048, 3072, 4096].map((side) => {
    using _scope = new Scope();
    const generator = new Generator(1);
    const [a, b] = [randn([side, side], { generator }).cast(dtype), randn([side, side], { generator }).cast(dtype)];
    const products = [b, b.transpose(0, 1)].map((right) => () => {
      using _product = new Scope();
      a.matmul(right);
    });
    return (2 * side ** 3) / Math.min(...products.map((product) => fastest(product)));
  });
  return 1000 * Math.max(...rates);
}

/** The least of what five runs behind one take, in milliseconds. */
function fastest(body: () => void): number {
  return Math.min(...Array.from({ length: 6 }, () => milliseconds(body, { times: 1, warmup: 0 })).slice(1));
}

/** Where the milliseconds of a step go. */
interface Parts {
  readonly forward: number;
  readonly backward: number;
  readonly update: number;
}

/** A step's flops by what the model needs of it, and its time. */
function trainingStep(precision: Precision, rows: number): { flops: number; parts: Parts } {
  const model = smolLlava(196);
  const counts = countModel(model, { learns: instructed });
  const examples = randomRows(model, { rows, text: rowTokens - model.imageTokens });
  const flops = examples.reduce((sum, { ids, labels }) => {
    const row = { views: 1, text: ids.length - model.imageTokens, supervised: supervisedTokens(labels) };
    return sum + workOf(rowWork(counts, row, { recompute: false, attention: { causalShare: 0.5, backward: 2 } }));
  }, 0);
  const training = new Training(model, { stage: 'instruct', precision, learningRate: 1e-5 });
  if (!model.visionTower) throw new Error('there is no tower');
  // none is kept, so that each step's images are as new ones
  const features = new TowerFeatures(model.visionTower, imageProcessor(model.visionTower.imageSize), { memoryBytes: 0 });
  const input = featuresInput(examples, (images) => features.encode(images), ownLimits(model, precision));
  const passes = (each: (loss: ReturnType<typeof batchLoss>) => void): void => {
    for (const batch of input.batches()) {
      using _scope = new Scope();
      each(batchLoss(model, batch).mul(1 / input.supervisedTokens));
    }
  };
  const timing = { times: 3, warmup: 1 };
  const step = milliseconds(() => training.step(input), timing);
  const forward = milliseconds(() => passes((loss) => loss.item()), timing);
  const both = milliseconds(() => {
    passes((loss) => loss.backward());
    training.optimizer.zeroGradients();
  }, timing);
  training.optimizer.free();
  for (const parameter of model.parameters()) parameter.free();
  return { flops, parts: { forward, backward: both - forward, update: step - both } };
}

const rows = Number(values.rows);
console.log(`# Model-flops utilization

${processor().name}, ${threads()} threads. ${rows} rows of ${rowTokens} tokens in one packed batch, 196 of an image, half of the others supervised. Flops are those that
the model needs (scripts/scaling/flops.ts: products, causal attention once, the head on supervised rows), with the frozen tower's; norms, activations, the optimizer and what
is computed again do not count. The peak is the fastest product of square matrices of 1024 to 4096.

| precision | matmul peak, GFLOP/s | step, GFLOP | step, s | of it forward, backward, clipping and optimizer | reached, GFLOP/s | utilization |
|---|---|---|---|---|---|---|`);
for (const precision of precisions) {
  const most = peak(precision);
  const { flops, parts } = trainingStep(precision, rows);
  const { forward, backward, update } = parts;
  const seconds = (forward + backward + update) / 1000;
  const shares = [forward, backward, update].map((part) => `${((100 * part) / (1000 * seconds)).toFixed(0)} %`).join(', ');
  const reached = flops / seconds;
  const giga = (value: number): string => (value / 1e9).toFixed(0);
  console.log(
    `| ${precision} | ${giga(most)} | ${giga(flops)} | ${seconds.toFixed(2)} | ${shares} | ${giga(reached)} | **${((100 * reached) / most).toFixed(0)} %** |`,
  );
}
