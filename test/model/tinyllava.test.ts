import { expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { parts } from '../../src/model/config.ts';
import { connectors } from '../../src/model/connector/index.ts';
import { splice } from '../../src/model/splice.ts';
import { createTinyLlava, type ModelBatch, type TinyLlava } from '../../src/model/tinyllava.ts';
import { noGrad } from '../../src/tensor/autograd.ts';
import { cat, randn, tensor, zeros } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const IMAGE = 30;
const tiny = { hiddenSize: 8, intermediateSize: 12, numHiddenLayers: 2, numAttentionHeads: 2 };
const settings = {
  vision: { type: 'siglip', ...tiny, imageSize: 8, patchSize: 4, featureLayer: -1, visionUseHead: false },
  connector: { type: 'mlp' },
  language: { type: 'llama', vocabSize: 30, ...tiny, hiddenSize: 16, numAttentionHeads: 4, numKeyValueHeads: 2, initializerRange: 0.3 },
  imageTokenId: IMAGE, // outside the vocabulary on purpose
};
const make = (): TinyLlava => createTinyLlava(settings).initialize(new Generator(1));
const image = new Array<number>(4).fill(IMAGE);
const pixelsOf = (count: number): Tensor => randn([count, 3, 8, 8], { generator: new Generator(9) });

const sequences = [[1, ...image, 2, 3], [4, 5], [...image, ...image, 6, 7, 8], [9], [3, 2, 1]];
const packed = (list: readonly (readonly number[])[]): { ids: Int32Array; lengths: number[] } => ({
  ids: Int32Array.from(list.flat()),
  lengths: list.map((ids) => ids.length),
});

const failure = (model: TinyLlava, batch: ModelBatch): string => {
  try {
    model.hidden(batch);
  } catch (error) {
    const { name, message, hint } = error as TinyLlavaError;
    return `${name}: ${message}${hint ? `\nhint: ${hint}` : ''}`;
  }
  throw new Error('did not fail');
};

test('packed sequences give what each gives alone', () => {
  const model = make();
  const pixels = pixelsOf(3);
  const together = model.hidden({ ...packed(sequences), pixels });
  const [one, two, three, four, five] = sequences as [number[], number[], number[], number[], number[]];
  const alone = [
    model.hidden({ ...packed([one]), pixels: pixels.narrow(0, 0, 1) }),
    model.hidden(packed([two])),
    model.hidden({ ...packed([three]), pixels: pixels.narrow(0, 1, 2) }),
    model.hidden(packed([four])),
    model.hidden(packed([five])),
  ];
  expect(together).toMatchTensor(cat(alone, 0));
  const logits = model.logits(together.narrow(0, 3, 2));
  expect([logits.shape, logits.dtype]).toEqual([[2, 30], 'float32']);
});

test('features computed before give what their pixels give', () => {
  const model = make();
  const pixels = pixelsOf(3);
  const imageFeatures = model.encodeImages(pixels);
  expect(imageFeatures.shape).toEqual([3, model.imageTokens, 16]);
  expect(model.hidden({ ...packed(sequences), imageFeatures })).toMatchTensor(model.hidden({ ...packed(sequences), pixels }), { atol: 0 });
});

test('prefill and decoding with caches give what one pass gives', () => {
  const model = make();
  const pixels = pixelsOf(3);
  const caches = sequences.map(() => model.languageModel.createCache({ capacity: 3 }));
  const full = model.hidden({ ...packed(sequences.map((ids) => [...ids, 11, 12, 13])), pixels });
  const pieces = [model.hidden({ ...packed(sequences), pixels, caches })];
  for (const id of [11, 12, 13]) pieces.push(model.hidden({ ...packed(sequences.map(() => [id])), caches }));
  const starts = sequences.map((_, i) => sequences.slice(0, i).reduce((sum, ids) => sum + ids.length, 0));
  const bySequence = sequences.map((ids, i) =>
    cat(pieces.map((piece, step) => (step === 0 ? piece.narrow(0, starts[i] ?? 0, ids.length) : piece.narrow(0, i, 1)))),
  );
  expect(cat(bySequence)).toMatchTensor(full);
  expect(caches.map(({ length }) => length)).toEqual(sequences.map((ids) => ids.length + 3));
});

test('a cached prefix is computed once and forked for many questions', () => {
  const model = make();
  const pixels = pixelsOf(1);
  const prefix = model.languageModel.createCache();
  model.hidden({ ...packed([[1, ...image]]), pixels, caches: [prefix] });
  const questions = [[2, 3, 4], [5], [6, 7]];
  const caches = questions.map(() => prefix.fork());
  const answers = model.hidden({ ...packed(questions), caches });
  const alone = questions.map((ids) => model.hidden({ ...packed([[1, ...image, ...ids]]), pixels }).narrow(0, 5, ids.length));
  expect(answers).toMatchTensor(cat(alone));
});

test('text alone does not run the tower, and frozen parts record no graph', () => {
  const model = make();
  model.connector?.trainable();
  expect(model.hidden(packed([[1, 2]])).requiresGrad).toBe(false);
  expect(model.visionTower?.forward(pixelsOf(1)).requiresGrad).toBe(false);
  const hidden = model.hidden({ ...packed(sequences), pixels: pixelsOf(3) });
  expect(hidden.requiresGrad).toBe(true);
  hidden.square().sum().backward();
  expect(Array.from(model.parameters()).filter(({ grad }) => grad !== undefined)).toHaveLength(4);
});

test('gradients reach tower, connector and embeddings through the splice, and no further than their rows', () => {
  const model = make().trainable();
  const { ids, lengths } = packed([[1, ...image, 2]]);
  model
    .hidden({ ids, lengths, pixels: pixelsOf(1) })
    .square()
    .sum()
    .backward();
  const parameters = new Map(model.namedParameters());
  const embeddings = parameters.get('model.language_model.embed_tokens.weight')?.grad?.abs().sum(1).toArray() as Float32Array;
  expect(Array.from(embeddings.keys()).filter((row) => (embeddings[row] ?? 0) > 0)).toEqual([1, 2]);
  expect(parameters.get('model.vision_tower.vision_model.embeddings.patch_embedding.weight')?.grad?.abs().sum().item()).toBeGreaterThan(0);
});

test('splicing puts rows in order and keeps the others', () => {
  const features = tensor([
    [
      [1, 2],
      [3, 4],
    ],
    [
      [5, 6],
      [7, 8],
    ],
  ]);
  expect(splice(zeros([6, 2]), [0, 2, 3, 5], features)).toMatchTensor(
    tensor([
      [1, 2],
      [0, 0],
      [3, 4],
      [5, 6],
      [0, 0],
      [7, 8],
    ]),
  );
});

test('ids, lengths, images and caches that do not fit together are told apart', () => {
  const model = make();
  expect(failure(model, { ids: Int32Array.of(1, 2, 3), lengths: [2] })).toMatchInlineSnapshot(
    `"ShapeError: lengths add up to 2 tokens, got 3 ids"`,
  );
  expect(failure(model, packed([[1, ...image]]))).toMatchInlineSnapshot(`
    "ShapeError: 4 image placeholders in the batch, but no images
    hint: give pixels or imageFeatures, or keep the image token out of the text"
  `);
  expect(failure(model, { ...packed([[1, ...image]]), pixels: pixelsOf(2) })).toMatchInlineSnapshot(`
    "ShapeError: 4 image placeholders in the batch, but the images have 8 embeddings
    hint: each image needs its placeholder repeated once for every embedding"
  `);
  expect(failure(model, { ...packed([[1, IMAGE, IMAGE]]), pixels: pixelsOf(1) })).toMatchInlineSnapshot(`
    "ShapeError: 2 image placeholders in the batch, but the images have 4 embeddings
    hint: each image needs its placeholder repeated once for every embedding"
  `);
  expect(failure(model, { ...packed([[1, 2]]), pixels: pixelsOf(1) })).toMatchInlineSnapshot(`
    "ShapeError: 0 image placeholders in the batch, but the images have 4 embeddings
    hint: each image needs its placeholder repeated once for every embedding"
  `);
  expect(failure(model, { ...packed([[1, 2]]), caches: [] })).toMatchInlineSnapshot(`"ShapeError: 1 sequences, but 0 caches"`);
  expect(failure(model, { ...packed([[1, ...image]]), imageFeatures: zeros([1, 4, 8]) })).toMatchInlineSnapshot(
    `"ShapeError: expected [K, C=16], got [4, 8]"`,
  );
});

test('a language model alone takes text and refuses images', () => {
  const model = createTinyLlava({ language: settings.language }).initialize(new Generator(1));
  expect(model.imageTokens).toBe(0);
  expect(model.hidden(packed([[1, 2]])).shape).toEqual([2, 16]);
  expect(() => model.encodeImages(pixelsOf(1))).toThrow('this model is a language model alone: it takes no images');
  expect(Array.from(model.namedParameters(), ([key]) => key).filter((key) => !key.includes('layers'))).toEqual([
    'model.embed_tokens.weight',
    'model.norm.weight',
    'lm_head.weight',
  ]);
});

test('a registry with a part of one’s own makes models with it', () => {
  const doubled = { ...parts, connectors: { ...connectors, mine: connectors.linear } };
  const model = createTinyLlava({ ...settings, connector: { type: 'linear' } }, doubled);
  expect(model.parameterCount()).toBeGreaterThan(0);
  expect(() => createTinyLlava({ ...settings, connector: { type: 'mine' } }, doubled)).toThrow(/connector\.type: .*"linear".*got "mine"/);
});

test('a training step and a decoding step leave no tensor behind', () => {
  const model = make().trainable();
  const pixels = pixelsOf(3);
  const cache = model.languageModel.createCache({ capacity: 64 });
  const step = (): void => {
    using _scope = new Scope();
    const hidden = model.hidden({ ...packed(sequences), pixels });
    model.logits(hidden).logSoftmax(1).select(1, 0).mean().neg().backward();
  };
  const decode = (): void => {
    using _scope = new Scope();
    noGrad(() => model.logits(model.hidden({ ...packed([[5]]), caches: [cache] })));
  };
  step();
  decode();
  const before = liveTensors();
  for (let i = 0; i < 3; i++) {
    step();
    decode();
  }
  expect(liveTensors()).toBe(before);
});
