import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadVisionTower } from '../../src/model/checkpoint.ts';
import { naflexSize } from '../../src/model/vision/naflex.ts';
import { Siglip2Tower } from '../../src/model/vision/siglip2.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { reference } from './reference.ts';

const { expected, folder, gradients } = reference('naflex-siglip2');
const images = expected.names.filter((name) => name.startsWith('image.')).map((_, i) => expected.tensor(`image.${i}`));

async function load(featureLayer: number | readonly number[]): Promise<Siglip2Tower> {
  const { tower } = await loadVisionTower(folder, { overrides: { featureLayer } });
  if (tower instanceof Siglip2Tower) return tower;
  throw new Error('not a SigLIP 2');
}

test.each([0, 1, 2])(
  'images of unequal grids, packed, have the hidden states of layer %i that transformers pads them for',
  async (layer) => {
    const tower = await load(layer);
    expect(tower.forwardAny(images)).toMatchTensor(expected.tensor(`hidden.${layer}`), { atol: 1e-5 });
  },
);

test('several layers of packed images stand side by side', async () => {
  const features = (await load([-1, 0])).forwardAny(images);
  expect(features.narrow(1, 15, 15)).toMatchTensor(expected.tensor('hidden.0'), { atol: 1e-5 });
});

test('gradients of packed images are those of transformers', async () => {
  const tower = (await load(-2)).trainable();
  tower.forwardAny(images).mul(expected.tensor('probe')).sum().backward();
  const parameters = new Map<string, Tensor>(tower.namedParameters());
  expect(gradients().length).toBeGreaterThan(10);
  for (const key of gradients()) {
    const wanted = expected.tensor(`grad.${key}`);
    expect(parameters.get(key)?.grad, key).toMatchTensor(wanted, { atol: 1e-5 * Math.max(1, wanted.abs().amax().item()) });
  }
});

test('an image is the same alone, among others, and in a batch of its kind', async () => {
  const tower = await load(-1);
  const [square] = images.filter((image) => image.shape.join() === '3,16,16') as [Tensor];
  const alone = tower.forwardAny([square]);
  expect(tower.forward(square.unsqueeze(0)).squeeze(0)).toMatchTensor(alone, { atol: 1e-6 });
  expect(tower.forwardAny(images).narrow(0, 10, 16)).toMatchTensor(alone, { atol: 1e-6 });
});

test('an image of another number of channels is refused', async () => {
  const tower = await load(-1);
  expect(() => tower.forwardAny([images[0]?.narrow(0, 0, 2) as Tensor])).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: expected [channels=3, H, W], got [2, 8, 20]]`,
  );
});

const sizes = JSON.parse(readFileSync(join(folder, 'sizes.json'), 'utf8')) as {
  from_: [number, number];
  patch: number;
  most: number;
  to: [number, number];
}[];

test.each(sizes)('$from_ pixels become $to in patches of $patch, at most $most', ({ from_, patch, most, to }) => {
  expect(naflexSize(from_, { patchSize: patch, maxPatches: most })).toEqual(to);
});
