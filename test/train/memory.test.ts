import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseRecipe, type Stage } from '../../src/train/recipe.ts';
import type { Setting } from './held.ts';

const sizes = { hiddenSize: 128, intermediateSize: 512, numHiddenLayers: 6, numAttentionHeads: 4 };
const vision = { type: 'siglip', ...sizes, imageSize: 64, patchSize: 8, visionUseHead: false, featureLayer: -1 };
const configOf = (language: string) => ({
  vision,
  connector: { type: 'mlp' },
  language: { type: language, ...sizes, vocabSize: 2000, ...(language === 'phi' ? {} : { numKeyValueHeads: 2 }) },
  imageTokenId: 4,
});

const tunings = {
  connector: {},
  full: { language: 'full' },
  lora: { language: { tune: 'lora', rank: 16 } },
  'lora without dropout': { language: { tune: 'lora', rank: 16, dropout: 0 } },
  everything: { vision: 'full', language: 'full' },
  'the upper half': { connector: 'frozen', language: { tune: 'from-layer', layer: 3 } },
} as const;

function stageOf(tuning: keyof typeof tunings): Stage {
  const learns = { connector: 'full', ...tunings[tuning] };
  const stage = { name: 'stage', learns, data: { conversations: 'rows.json' }, optimizer: { learningRate: 1e-3 }, batchSize: 1, steps: 1 };
  const [parsed] = parseRecipe({ model: { from: 'model' }, stages: [{ ...stage, template: 'plain' }] } as never).stages;
  return parsed as Stage;
}

const everyTuning = Object.keys(tunings) as (keyof typeof tunings)[];
const settings: { name: string; setting: Setting }[] = [
  ...[false, true].flatMap((recompute) => everyTuning.map((tuning) => ['llama', tuning, 'float32', recompute] as const)),
  ...[false, true].flatMap((recompute) => (['full', 'lora'] as const).map((tuning) => ['llama', tuning, 'bfloat16', recompute] as const)),
  ...['phi', 'phi3', 'qwen3', 'gemma3_text'].map((language) => [language, 'full', 'bfloat16', false] as const),
].map(([language, tuning, precision, recompute]) => ({
  name: `${tuning} of ${language} in ${precision}${recompute ? ', layers computed again' : ''}`,
  setting: { config: configOf(language), stage: stageOf(tuning), precision, recompute },
}));

describe.skipIf(process.platform !== 'linux')('the estimate of a micro-batch is between 0.9 and 1.2 of what it was seen to hold', () => {
  let held: readonly { readonly peak: number; readonly estimate: number }[];
  beforeAll(() => {
    // Every tensor is a mapping of its own, which goes back to the system when it is freed.
    const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: '16384', MALLOC_MMAP_MAX_: '1000000' };
    const script = [join(import.meta.dirname, 'held.ts'), JSON.stringify(settings.map(({ setting }) => setting))];
    const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', '--import', 'tsx', ...script], { encoding: 'utf8', env });
    if (stdout === '') throw new Error(stderr);
    held = JSON.parse(stdout);
  }, 300_000);

  test.each(settings.map(({ name }, i) => [name, i] as const))('%s', (_, i) => {
    const { estimate, peak } = held[i] ?? { estimate: Number.NaN, peak: Number.NaN };
    expect(estimate / peak).toBeGreaterThan(0.9);
    expect(estimate / peak).toBeLessThan(1.2);
  });
});
