import { join } from 'node:path';
import { supervisedTokens } from '../../src/data/batch.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import type { StepInput } from '../../src/train/step.ts';

const stored = openSafetensors(join(import.meta.dirname, '../reference/train-llava/expected.safetensors'));

/** The conversations of a step of `train-llava` in micro-batches of these sizes. */
export function microBatches(step: number, sizes: readonly number[]): StepInput {
  const read = (name: string): Int32Array => stored.tensor(`${step}.${name}`).toArray() as Int32Array;
  const [ids, labels, lengths, pixels] = [read('ids'), read('labels'), Array.from(read('lengths')), stored.tensor(`${step}.pixels`)];
  const images = [1, 0, 2, 1];
  let [row, token, image] = [0, 0, 0];
  const batches = sizes.map((size) => {
    const taken = lengths.slice(row, row + size);
    const tokens = taken.reduce((sum, length) => sum + length, 0);
    const shown = images.slice(row, row + size).reduce((sum, count) => sum + count, 0);
    const batch = {
      ids: ids.slice(token, token + tokens),
      labels: labels.slice(token, token + tokens),
      lengths: taken,
      ...(shown > 0 ? { pixels: pixels.narrow(0, image, shown) } : {}),
      rows: taken.map((_, i) => `made#${row + i}`),
    };
    [row, token, image] = [row + size, token + tokens, image + shown];
    return batch;
  });
  return { supervisedTokens: supervisedTokens(labels), batches: () => batches };
}
