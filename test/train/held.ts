// Prints what micro-batches hold beside the weights, by the resident memory of this process, for a list of settings: { peak, estimate }[], both of gradients too.
import { readFileSync, writeFileSync } from 'node:fs';
import { createTinyLlava, type TinyLlava } from '../../src/model/tinyllava.ts';
import { backwardByLayers } from '../../src/nn/layers.ts';
import { randn } from '../../src/tensor/create.ts';
import { setThreads } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import { estimateMemory } from '../../src/train/memory.ts';
import { Masters, type Precision, precisions } from '../../src/train/precision.ts';
import type { Stage } from '../../src/train/recipe.ts';
import { batchLoss } from '../../src/train/step.ts';
import { tune } from '../../src/train/tune.ts';

/** What is measured. */
export interface Setting {
  readonly config: unknown;
  readonly stage: Pick<Stage, 'name' | 'learns' | 'optimizer'>;
  readonly precision: Precision;
  readonly recompute: boolean;
}

const [rows, text, generator] = [16, 64, new Generator(1)];
const imageToken = 4;

/** Conversations of an image and so much text, of which every second token is learned. */
function batchOf(model: TinyLlava, { learnsTower, precision }: { learnsTower: boolean; precision: Precision }) {
  const { imageTokens, visionTower } = model;
  const own = Array.from({ length: imageTokens + text }, (_, i) => (i < imageTokens ? imageToken : imageToken + 1 + (i % 7)));
  const labels = own.map((id, i) => (i < imageTokens || i % 2 === 0 ? -100 : id));
  const all = (list: readonly number[]): Int32Array => Int32Array.from({ length: rows * own.length }, (_, i) => list[i % own.length] ?? 0);
  const side = visionTower?.imageSize ?? 0;
  const features = [rows, visionTower?.tokens ?? 0, visionTower?.hiddenSize ?? 0];
  return {
    ids: all(own),
    labels: all(labels),
    lengths: new Array<number>(rows).fill(own.length),
    rows: [],
    ...(learnsTower
      ? { pixels: randn([rows, 3, side, side], { generator }) }
      : { towerFeatures: randn(features, { generator }).cast(precisions[precision].compute) }),
  };
}

const resident = (which: 'VmRSS' | 'VmHWM'): number =>
  1024 * Number(readFileSync('/proc/self/status', 'utf8').match(new RegExp(`${which}:\\s+(\\d+)`))?.[1]);

function measure({ config, stage, precision, recompute }: Setting): { peak: number; estimate: number } {
  const model = createTinyLlava(config);
  model.initialize(generator);
  const rowTokens = model.imageTokens + text;
  const packed = { tokens: rows * rowTokens, rowTokens, supervised: (rows * text) / 2, images: rows };
  const { activations, gradients } = estimateMemory(model, stage, { ...packed, recompute, precision });
  tune(model, stage).value = 1;
  new Masters(model, precision);
  const batch = batchOf(model, { learnsTower: stage.learns.vision.tune !== 'frozen', precision });
  const step = (): number => {
    using _scope = new Scope();
    globalThis.gc?.();
    const before = resident('VmRSS');
    writeFileSync('/proc/self/clear_refs', '5'); // the peak begins anew
    if (recompute) backwardByLayers(() => batchLoss(model, batch), { recompute });
    else batchLoss(model, batch).backward();
    const peak = resident('VmHWM') - before;
    for (const parameter of model.parameters()) parameter.grad = undefined;
    return peak;
  };
  // The first one leaves what libraries keep; while one runs JavaScript's heap may shrink.
  let [earlier, peak] = [step(), step()];
  for (let more = 8; more > 0 && Math.abs(peak - earlier) > 0.02 * peak; more--) [earlier, peak] = [peak, step()];
  for (const parameter of model.parameters()) parameter.free();
  return { peak, estimate: activations + gradients };
}

setThreads(1);
const settings = JSON.parse(process.argv[2] ?? '[]') as Setting[];
process.stdout.write(JSON.stringify(settings.map(measure)));
