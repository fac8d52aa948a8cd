import { join } from 'node:path';
import { Batch } from '../../src/generate/batch.ts';
import { ImageStore } from '../../src/generate/image-store.ts';
import { Sampler } from '../../src/generate/sample.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { print } from '../measure.ts';

const [folder = '', dtype = ''] = process.argv.slice(2);
const newTokens = 64;
const { model } = await loadCheckpoint(join(folder, dtype));
const ids = Int32Array.from(openSafetensors(join(folder, 'data.safetensors')).tensor('ids').toArray() as BigInt64Array, Number);
const image = new ImageProcessor({ size: { height: 1, width: 1 } });
const batch = new Batch(model, new ImageStore(model, { image }), { slots: 1, remembered: 0 });

/** Seconds for `count` tokens behind the prompt, and the tokens. */
function generate(count: number): [seconds: number, tokens: number[]] {
  const tokens: number[] = [];
  const start = performance.now();
  batch.add({ ids, images: [], sampler: new Sampler({}), maxNewTokens: count, begin: () => {}, take: (id) => tokens.push(id) < count });
  while (batch.size > 0) batch.step();
  return [(performance.now() - start) / 1000, tokens];
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
generate(4);
const rounds = [0, 1, 2].map(() => ({ first: generate(1)[0], all: generate(newTokens + 1) }));
const first = median(rounds.map((round) => round.first));
const all = median(rounds.map((round) => round.all[0]));
print({ metrics: { prefill: ids.length / first, decode: newTokens / (all - first) }, check: rounds[0]?.all[1].slice(0, 8) ?? [] });
