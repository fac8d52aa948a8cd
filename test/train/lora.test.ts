import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Batch } from '../../src/data/batch.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { loraLayers } from '../../src/nn/lora.ts';
import { QuantizedLinear } from '../../src/nn/quantized-linear.ts';
import { liveTensors, setThreads, threads } from '../../src/tensor/device.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { AdamW } from '../../src/train/adamw.ts';
import { withDropout } from '../../src/train/dropout.ts';
import { settle } from '../../src/train/low-rank.ts';
import { parseRecipe, type RecipeInput, type Stage } from '../../src/train/recipe.ts';
import { trainStep } from '../../src/train/step.ts';
import { parameterGroups, tune } from '../../src/train/tune.ts';
import '../matchers.ts';
import { microBatches } from './reference-batches.ts';

const root = join(import.meta.dirname, '../reference');
const expected = openSafetensors(join(root, 'train-lora/expected.safetensors'));
const values = (name: string): number[] => Array.from(expected.tensor(name).toArray() as Float32Array);

const usual = threads();
beforeAll(() => setThreads(1));
afterAll(() => setThreads(usual));

/** A stage with these parts learning, every default filled in. */
function stageOf(learns: RecipeInput['stages'][number]['learns']): Stage {
  const [stage] = parseRecipe({
    model: { from: 'somewhere' },
    stages: [
      {
        name: 'reference',
        learns,
        data: { conversations: 'none.json' },
        optimizer: { learningRate: 1e-2, betas: [0.9, 0.95], weightDecay: 0.1, maxGradNorm: 0.7 },
        batchSize: 4,
        steps: 6,
      },
    ],
  }).stages;
  return stage as Stage;
}

const lora = { tune: 'lora', rank: 4, alpha: 8, dropout: 0 } as const;

/** Trains so many steps; gives the losses. */
function train(
  model: TinyLlava,
  stage: Stage,
  { steps, recompute = false, seed = 0, sizes = [4] }: { steps: number; recompute?: boolean; seed?: number; sizes?: number[] },
): number[] {
  const dropout = tune(model, stage, { seed });
  const optimizer = new AdamW(parameterGroups(model, stage), stage.optimizer);
  const losses = Array.from({ length: steps }, (_, step) => {
    const input = withDropout(microBatches(step, sizes), dropout, { seed, stage: stage.name, step });
    return trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 0.7, recompute }).loss;
  });
  optimizer.free();
  return losses;
}

test.each([
  { sizes: [4], recompute: false },
  { sizes: [1, 3], recompute: true },
])('six steps in micro-batches of $sizes (recompute: $recompute) are those of a loop over PEFT', async ({ sizes, recompute }) => {
  const { model } = await loadCheckpoint(join(root, 'train-lora'), { keepAdapter: true });
  const stage = stageOf({ connector: { tune: 'full', learningRate: 2e-2 }, language: lora });
  tune(model, stage);
  const optimizer = new AdamW(parameterGroups(model, stage), stage.optimizer);
  const [losses, norms] = [values('loss'), values('norm')];
  for (let step = 0; step < losses.length; step++) {
    const input = microBatches(step, sizes);
    const before = liveTensors();
    const facts = trainStep(model, optimizer, input, { factor: 1, maxGradNorm: 0.7, recompute });
    expect(liveTensors()).toBe(before);
    expect(Math.abs(facts.loss - (losses[step] ?? Number.NaN)), `loss of step ${step}`).toBeLessThan(1e-5);
    expect(Math.abs(facts.gradNorm - (norms[step] ?? Number.NaN)), `norm of step ${step}`).toBeLessThan(1e-4);
  }
  const parameters = new Map(model.namedParameters());
  const final = expected.names.filter((name) => name.startsWith('final.'));
  expect(final.length).toBe(2 * loraLayers(model).size + 4);
  for (const name of final) {
    expect(parameters.get(name.replace('final.base_model.model.', '')), name).toMatchTensor(expected.tensor(name), { atol: 1e-4 });
  }
});

test('the first gradients are those of PEFT', async () => {
  const { model } = await loadCheckpoint(join(root, 'train-lora'), { keepAdapter: true });
  const stage = stageOf({ connector: { tune: 'full', learningRate: 2e-2 }, language: lora });
  tune(model, stage);
  const seen = new Map<string, Tensor>();
  for (const [key, parameter] of model.namedParameters()) if (parameter.requiresGrad) seen.set(key, parameter);
  // It moves nothing, so the gradients stay.
  const optimizer = new AdamW([], { betas: [0.9, 0.999], eps: 1e-8 });
  trainStep(model, optimizer, microBatches(0, [4]), { factor: 1, maxGradNorm: 0 });
  const wanted = expected.names.filter((name) => name.startsWith('grad.'));
  expect(wanted.length).toBe(seen.size);
  for (const name of wanted) {
    expect(seen.get(name.replace('grad.base_model.model.', ''))?.grad, name).toMatchTensor(expected.tensor(name), { atol: 2e-6 });
  }
});

test('low-rank changes learn alone, from the seed, and leave the base as it is', async () => {
  const run = async (seed: number): Promise<TinyLlava> => {
    const { model } = await loadCheckpoint(join(root, 'llava-clip'));
    train(model, stageOf({ language: { tune: 'lora', rank: 2 }, vision: { tune: 'lora', rank: 3, targets: ['q_proj', 'fc1'] } }), {
      steps: 2,
      seed,
    });
    return model;
  };
  const [first, again, other, base] = [await run(1), await run(1), await run(2), (await loadCheckpoint(join(root, 'llava-clip'))).model];
  const [own, same, different] = [first, again, other].map((model) => new Map(model.namedParameters()));
  const untouched = new Map(base.namedParameters());
  const changes = [...(own ?? [])].filter(([key]) => /\.lora_[AB]\.weight$/.test(key));
  expect(changes.length).toBe(2 * (14 + 6));
  for (const [key, tensor] of own ?? []) {
    expect(same?.get(key)?.equal(tensor), key).toBe(true);
    // Features are taken before the tower's last layer, so B stays zero there.
    const idle = key.includes('encoder.layers.2.') && key.includes('lora_B');
    expect(untouched.get(key)?.equal(tensor) ?? different?.get(key)?.equal(tensor) === idle, key).toBe(true);
  }
});

test('dropout drops the same when layers are computed again, other things in every micro-batch, and nothing behind a step', async () => {
  const losses = async (options: { recompute?: boolean; seed?: number; dropout?: number }): Promise<number[]> => {
    const { dropout = 0.5, ...rest } = options;
    const { model } = await loadCheckpoint(join(root, 'train-lora'), { keepAdapter: true });
    const run = train(model, stageOf({ language: { ...lora, dropout } }), { steps: 3, sizes: [2, 2], ...rest });
    const batch = [...microBatches(0, [4]).batches()][0] as Batch;
    expect(model.hidden(batch).equal(model.hidden(batch))).toBe(true);
    return run;
  };
  const kept = await losses({});
  expect(await losses({ recompute: true })).toEqual(kept.map((loss) => expect.closeTo(loss, 5)));
  expect(await losses({})).toEqual(kept);
  expect(await losses({ seed: 1 })).not.toEqual(kept);
  expect((await losses({ dropout: 0 }))[1]).not.toBeCloseTo(kept[1] ?? 0, 5);
});

test.each([4, 8] as const)(
  'qlora in %i bits: the weights take a fraction, factors learn, and the checkpoint is plain again',
  async (bits) => {
    const { model } = await loadCheckpoint(join(root, 'llava-clip'));
    const plain = [...model.namedParameters()].map(([key, tensor]) => `${key} ${tensor.shape} ${tensor.dtype}`);
    const bytes = (): number => {
      const packed = [...model.namedModules()].flatMap(([, module]) => (module instanceof QuantizedLinear ? [module.bytes] : []));
      return [...Array.from(model.parameters(), (tensor) => tensor.bytes), ...packed].reduce((sum, each) => sum + each, 0);
    };
    const before = bytes();
    const stage = stageOf({ connector: 'full', language: { ...lora, rank: 1, tune: 'qlora', bits } });
    const losses = train(model, stage, { steps: 6 });
    const quantized = [...model.namedModules()].filter(([, module]) => module instanceof QuantizedLinear);
    expect(quantized.length).toBe(14);
    expect(bytes()).toBeLessThan(before);
    expect(Math.min(...losses.slice(1))).toBeLessThan(losses[0] ?? 0);
    const batch = [...microBatches(0, [4]).batches()][0] as Batch;
    const learned = model.hidden(batch);
    settle(model);
    expect([...model.namedParameters()].map(([key, tensor]) => `${key} ${tensor.shape} ${tensor.dtype}`)).toEqual(plain);
    expect(model.hidden(batch)).toMatchTensor(learned, { atol: 1e-4 });
  },
);

test.each(['lora', 'qlora'] as const)('%s is put in and taken out again without a tensor left behind', async (kind) => {
  const { model } = await loadCheckpoint(join(root, 'llama-tied-biases'));
  const before = liveTensors();
  for (let i = 0; i < 2; i++) {
    tune(model, stageOf({ language: { ...lora, tune: kind } }));
    settle(model);
    expect(liveTensors()).toBe(before);
  }
});
