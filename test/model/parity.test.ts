import { expect, test } from 'vitest';
import { loadCheckpoint, loadVisionTower } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { indices } from '../../src/tensor/create.ts';
import { crossEntropy } from '../../src/tensor/functional.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { llamaReferences, nextTokens, type Reference, reference } from './reference.ts';

const atol = 1e-5;

/** The mean loss over every labelled token, as training takes it. */
function loss(model: TinyLlava, { ids, lengths, labels }: Reference, pixels?: Tensor): Tensor {
  const { from, to } = nextTokens(lengths());
  const hidden = model.hidden({ ids: ids(), lengths: lengths(), pixels, wanted: from });
  return crossEntropy(model.logits(hidden), labels().indexSelect(0, indices(to)));
}

function expectGradients(named: Iterable<[string, Tensor]>, { expected, gradients }: Reference): void {
  const parameters = new Map(named);
  expect(gradients().length).toBeGreaterThan(3);
  for (const key of gradients()) expect(parameters.get(key)?.grad, key).toMatchTensor(expected.tensor(`grad.${key}`), { atol });
}

test.each([
  ['clip', { featureLayer: -2, select: 'cls_patch' }, 2],
  ['clip', { featureLayer: 0, select: 'cls_patch' }, 0],
  ['clip', { featureLayer: -1, select: 'cls_patch' }, 3],
  ['siglip', { featureLayer: -2 }, 2],
  ['siglip', { featureLayer: 1 }, 1],
  ['siglip', { featureLayer: 3 }, 3],
] as const)('%s with %o gives the hidden states of transformers', async (name, overrides, layer) => {
  const { expected, folder } = reference(name);
  const { tower } = await loadVisionTower(folder, { overrides });
  expect(tower.forward(expected.tensor('pixel_values'))).toMatchTensor(expected.tensor(`hidden.${layer}`), { atol });
});

test.each(['clip', 'siglip'])('gradients of %s are those of transformers', async (name) => {
  const ref = reference(name);
  const { tower } = await loadVisionTower(ref.folder, { overrides: name === 'clip' ? { select: 'cls_patch' } : {} });
  tower.trainable();
  tower.forward(ref.expected.tensor('pixel_values')).mul(ref.expected.tensor('probe')).sum().backward();
  expectGradients(tower.namedParameters(), ref);
});

test.each(llamaReferences)('%s agrees with transformers in hidden states, logits, loss and gradients', async (name) => {
  const ref = reference(name);
  const { model } = await loadCheckpoint(ref.folder);
  const hidden = model.hidden({ ids: ref.ids(), lengths: ref.lengths() });
  expect(hidden).toMatchTensor(ref.expected.tensor('hidden'), { atol });
  expect(model.logits(hidden)).toMatchTensor(ref.expected.tensor('logits'), { atol });
  model.trainable();
  const mean = loss(model, ref);
  expect(mean.reshape(1)).toMatchTensor(ref.expected.tensor('loss'), { atol });
  mean.backward();
  expectGradients(model.namedParameters(), ref);
});

test.each(['llava-clip', 'llava-clip-two-layers', 'llava-siglip'])(
  '%s agrees with transformers in image features, logits, loss and gradients',
  async (name) => {
    const ref = reference(name);
    const { model } = await loadCheckpoint(ref.folder);
    const pixels = ref.expected.tensor('pixel_values');
    const imageFeatures = model.encodeImages(pixels);
    expect(imageFeatures).toMatchTensor(ref.expected.tensor('image_features'), { atol });
    const hidden = model.hidden({ ids: ref.ids(), lengths: ref.lengths(), imageFeatures });
    expect(model.logits(hidden)).toMatchTensor(ref.expected.tensor('logits'), { atol });
    model.trainable();
    const mean = loss(model, ref, pixels);
    expect(mean.reshape(1)).toMatchTensor(ref.expected.tensor('loss'), { atol });
    mean.backward();
    expectGradients(model.namedParameters(), ref);
  },
);

test.each(['llava-clip', 'llava-siglip'])('%s in bfloat16 stays near the logits in float32', async (name) => {
  const { folder, expected, ids, lengths } = reference(name);
  const { model } = await loadCheckpoint(folder, { dtype: 'bfloat16' });
  const hidden = model.hidden({ ids: ids(), lengths: lengths(), pixels: expected.tensor('pixel_values') });
  expect(hidden.dtype).toBe('bfloat16');
  const logits = model.logits(hidden);
  expect(logits.dtype).toBe('float32');
  const wanted = expected.tensor('logits');
  expect(logits.sub(wanted).norm().item() / wanted.norm().item()).toBeLessThan(0.02);
});
