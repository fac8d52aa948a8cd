import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { backwardByLayers } from '../../src/nn/layers.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { summedLoss, targetsOf } from '../../src/train/loss.ts';
import '../matchers.ts';
import { type Reference, reference } from '../model/reference.ts';

// Tensors this small gain nothing from a second thread, and lose much on a busy machine.
const usual = threads();
beforeAll(() => setThreads(1));
afterAll(() => setThreads(usual));

function loss(model: TinyLlava, { ids, lengths, labels, expected }: Reference): Tensor {
  const packed = { labels: Int32Array.from(labels().toArray() as BigInt64Array, Number), lengths: lengths() };
  const pixels = expected.names.includes('pixel_values') ? expected.tensor('pixel_values') : undefined;
  const { rows: wanted, tokens } = targetsOf(packed);
  return summedLoss(model, model.hidden({ ids: ids(), lengths: lengths(), pixels, wanted }), tokens);
}

test.each([
  ['llava-clip-two-layers', /./],
  ['llava-siglip', /./],
  ['llava-clip', /multi_modal_projector/],
  ['llava-clip', /vision_tower/],
  ['llava-clip', /language_model.layers.1/],
  ['gemma2', /./],
  ['gemma3_text-scaled', /layers.1/],
  ['phi', /lm_head|mlp/],
  ['phi3-longrope', /./],
  ['openelm', /./],
] as const)('gradients of %s with respect to %o are the same bits layer by layer, kept or computed again', async (name, learns) => {
  const ref = reference(name);
  const run = async (compute: (model: TinyLlava) => void): Promise<Map<string, Tensor | undefined>> => {
    const { model } = await loadCheckpoint(ref.folder);
    for (const [key, parameter] of model.namedParameters()) parameter.requiresGrad_(learns.test(key));
    const before = liveTensors();
    {
      using _scope = new Scope();
      compute(model);
    }
    expect(liveTensors()).toBe(before);
    const trained = [...model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad);
    return new Map(trained.map(([key, { grad }]) => [key, grad]));
  };
  const plain = await run((model) => loss(model, ref).backward());
  expect(plain.size).toBeGreaterThan(0);
  for (const recompute of [false, true]) {
    const again = await run((model) => backwardByLayers(() => loss(model, ref), { recompute }));
    expect([...again.keys()]).toEqual([...plain.keys()]);
    for (const [key, gradient] of plain) {
      // Where two feature layers branch off, three gradients meet and are added up in another order.
      if (gradient && name === 'llava-clip-two-layers') expect(again.get(key), key).toMatchTensor(gradient, { atol: 1e-6 });
      else expect(gradient ? again.get(key)?.equal(gradient) : again.get(key) === undefined, key).toBe(true);
    }
  }
});
