import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadVisionTower } from '../../src/model/checkpoint.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import '../matchers.ts';

const folder = process.env['TINYLLAVA_EFFICIENTNET'];

test.skipIf(folder === undefined)(
  'the published EfficientNet-Lite0 sees what its own package sees (TINYLLAVA_EFFICIENTNET: the folder of scripts/make-efficientnet-reference.py)',
  async () => {
    const { tower } = await loadVisionTower(folder ?? '');
    const expected = openSafetensors(join(folder ?? '', 'expected.safetensors'));
    const features = expected.tensor('features');
    expect(features.abs().amax().item()).toBeGreaterThan(1);
    expect(tower.forward(expected.tensor('pixels'))).toMatchTensor(features, { atol: 1e-4 });
  },
);
