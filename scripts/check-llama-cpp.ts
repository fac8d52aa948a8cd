// Converts tiny random models for llama.cpp and compares what it computes with what this package does.
//   TINYLLAVA_LLAMA_NODE=…/node_modules/@fugood/llama.node npx tsx scripts/check-llama-cpp.ts [name…]
// The module is npm's `@fugood/llama.node`, which carries llama.cpp; it is no dependency of this package.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { convert } from '../src/export/index.ts';
import { loadCheckpoint, saveCheckpoint } from '../src/model/checkpoint.ts';
import type { PartConfig } from '../src/model/part.ts';
import { createTinyLlava, type TinyLlava } from '../src/model/tinyllava.ts';
import { ClipTower } from '../src/model/vision/clip.ts';
import { ImageProcessor } from '../src/processor/image.ts';
import { Tokenizer } from '../src/processor/tokenizer.ts';
import { cat, randint } from '../src/tensor/create.ts';
import { Generator } from '../src/tensor/random.ts';
import type { Tensor } from '../src/tensor/tensor.ts';

const module = process.env['TINYLLAVA_LLAMA_NODE'] ?? '';
if (module === '') {
  console.error('TINYLLAVA_LLAMA_NODE names no folder of @fugood/llama.node; npm install it anywhere outside this repository');
  process.exit(2);
}
const child = join(import.meta.dirname, 'llama-cpp/probabilities.mjs');
const reference = join(import.meta.dirname, '../test/reference');
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-llama-cpp-'));
process.on('exit', () => rmSync(scratch, { recursive: true }));

const tokenizers = { bytes: 'processor-tokenizer-byte-level', pieces: 'processor-tokenizer-prepend' };
const shape = {
  hiddenSize: 32,
  intermediateSize: 64,
  numHiddenLayers: 3,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  initializerRange: 0.2,
};
const llama3 = {
  ropeType: 'llama3',
  ropeTheta: 500_000,
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 64,
};
const factors = { ropeType: 'longrope', ropeTheta: 10_000, shortFactor: [1, 1.1, 1.3, 1.4], longFactor: [1.2, 2, 5, 9.5] };
const gemma = { ...shape, headDim: 8, queryPreAttnScalar: 8, slidingWindow: 6 };

/** Language models, by name: settings and kind of tokenizer. */
const languages: Readonly<Record<string, readonly [PartConfig, keyof typeof tokenizers]>> = {
  llama: [{ type: 'llama', ...shape }, 'bytes'],
  'llama-pieces': [{ type: 'llama', ...shape, attentionBias: true, headDim: 16 }, 'pieces'],
  llama3: [{ type: 'llama', ...shape, ropeParameters: llama3, tieWordEmbeddings: true }, 'bytes'],
  'llama-linear': [{ type: 'llama', ...shape, ropeParameters: { ropeType: 'linear', ropeTheta: 10_000, factor: 4 } }, 'bytes'],
  qwen2: [{ type: 'qwen2', ...shape }, 'bytes'],
  qwen3: [{ type: 'qwen3', ...shape, headDim: 16 }, 'bytes'],
  gemma: [{ type: 'gemma', ...shape, headDim: 16 }, 'pieces'],
  gemma2: [{ type: 'gemma2', ...gemma }, 'pieces'],
  gemma3: [{ type: 'gemma3_text', ...gemma, numHiddenLayers: 7 }, 'pieces'],
  'gemma3-pattern': [{ type: 'gemma3_text', ...gemma, slidingWindowPattern: 2, finalLogitSoftcapping: 5 }, 'pieces'],
  phi: [{ type: 'phi', ...shape, numKeyValueHeads: 4 }, 'bytes'],
  phi3: [{ type: 'phi3', ...shape }, 'pieces'],
  'phi3-longrope': [
    { type: 'phi3', ...shape, ropeParameters: factors, maxPositionEmbeddings: 4096, originalMaxPositionEmbeddings: 2048 },
    'pieces',
  ],
  'phi3-longrope-long': [
    { type: 'phi3', ...shape, ropeParameters: factors, maxPositionEmbeddings: 128, originalMaxPositionEmbeddings: 16 },
    'pieces',
  ],
  stablelm: [{ type: 'stablelm', ...shape, useQkvBias: true, partialRotaryFactor: 0.5 }, 'bytes'],
  'stablelm-parallel': [
    { type: 'stablelm', ...shape, useParallelResidual: true, qkLayernorm: true, tieWordEmbeddings: true, partialRotaryFactor: 0.5 },
    'bytes',
  ],
  smollm3: [{ type: 'smollm3', ...shape, numHiddenLayers: 5 }, 'bytes'],
  openelm: [
    {
      type: 'openelm',
      modelDim: 32,
      headDim: 8,
      numTransformerLayers: 3,
      numGqaGroups: 2,
      ffnMultipliers: [1, 3],
      qkvMultipliers: [0.5, 1],
      ffnDimDivisor: 16,
      normalizeQkProjections: true,
      shareInputOutputLayers: true,
    },
    'pieces',
  ],
};

const vit = { hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 3, numAttentionHeads: 2 };

/** A model's parts that see, and what is odd about them in llama.cpp. */
interface Seeing {
  readonly vision: PartConfig & { readonly imageSize: number };
  readonly connector: PartConfig;
  readonly special?: readonly string[];
  readonly misplaced?: boolean;
}

/** Towers and connectors over the first language model. `special` are tokens that llama.cpp writes beside images, `misplaced` says
 * that it puts the class token in the wrong place. */
const seeing: Readonly<Record<string, Seeing>> = {
  'siglip-mlp': { vision: { type: 'siglip', ...vit, imageSize: 32, patchSize: 8, visionUseHead: false }, connector: { type: 'mlp' } },
  'siglip-mlp-last': {
    vision: { type: 'siglip', ...vit, imageSize: 32, patchSize: 8, visionUseHead: false, featureLayer: -1, postNorm: true },
    connector: { type: 'mlp', bias: false },
  },
  'siglip-mlp-two-layers': {
    vision: { type: 'siglip', ...vit, intermediateSize: 32, imageSize: 32, patchSize: 8, visionUseHead: false, featureLayer: [-3, -2] },
    connector: { type: 'mlp' },
  },
  'clip-mlp': { vision: { type: 'clip', ...vit, imageSize: 32, patchSize: 8 }, connector: { type: 'mlp' }, misplaced: true },
  'siglip-ldp-v2': { vision: { type: 'siglip', ...vit, imageSize: 48, patchSize: 2, visionUseHead: false }, connector: { type: 'ldp-v2' } },
  'siglip-pixel-shuffle': {
    vision: { type: 'siglip', ...vit, imageSize: 32, patchSize: 4, visionUseHead: false, featureLayer: -1, postNorm: true },
    connector: { type: 'pixel-shuffle', factor: 2, layers: 1, bias: false },
    special: ['\n\n', '\n', '<fake_token_around_image>', '<global-img>'],
  },
  'internvit-pixel-shuffle-mlp': {
    vision: { type: 'internvl', ...vit, intermediateSize: 32, imageSize: 32, patchSize: 4, attentionBias: true, layerScaleInitValue: 0.7 },
    connector: { type: 'pixel-shuffle-mlp', factor: 2 },
  },
  'clip-pixel-shuffle-mlp': {
    vision: { type: 'clip', ...vit, imageSize: 32, patchSize: 4, featureLayer: -1, hiddenAct: 'gelu_pytorch_tanh' },
    connector: { type: 'pixel-shuffle-mlp', factor: 2, hiddenAct: 'gelu_pytorch_tanh' },
  },
};

/** A folder with a random model and the tokenizer of a kind. */
async function make(
  name: string,
  kind: keyof typeof tokenizers,
  { special = [], language, vision, connector }: Partial<Seeing> & { readonly language: PartConfig },
): Promise<{ folder: string; tokenizer: Tokenizer; model: TinyLlava }> {
  const folder = join(scratch, name);
  mkdirSync(folder);
  const read = await Tokenizer.open(join(reference, tokenizers[kind]));
  const tokenizer = special.reduce((all, token) => all.withSpecialToken(token), read);
  const model = createTinyLlava({
    language: { vocabSize: tokenizer.size + 3, ...language },
    ...(vision && { vision, connector, imageTokenId: tokenizer.size }),
  }).initialize(new Generator(1));
  await saveCheckpoint(folder, model);
  await tokenizer.save(folder);
  if (vision) {
    const side = vision.imageSize;
    await new ImageProcessor({ size: { height: side, width: side }, mean: [0.5, 0.4, 0.6], std: [0.5, 0.6, 0.7] }).save(folder);
  }
  return { folder, tokenizer, model: (await loadCheckpoint(folder)).model };
}

/** What llama.cpp makes of a prompt: its tokens, and the probabilities of the next one, the largest first. */
function theirs(job: Readonly<Record<string, string>>): { tokens: number[]; probabilities: number[] } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, module, JSON.stringify(job)], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`llama.cpp ended with ${status ?? signal}:\n${stderr.slice(-2000)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}

/** The largest difference of two lists of probabilities, the largest first. */
const apart = (a: readonly number[], b: readonly number[]): number => Math.max(...b.map((value, i) => Math.abs(value - (a[i] ?? 0))));

/** The probabilities of the next token here, the largest first. */
function ours(model: TinyLlava, ids: readonly number[], seen: { pixels?: Tensor; imageFeatures?: Tensor } = {}): number[] {
  const hidden = model.hidden({ ids: Int32Array.from(ids), lengths: [ids.length], ...seen });
  const last = hidden.narrow(0, ids.length - 1, 1);
  return Array.from(model.logits(last).softmax(-1).toArray() as Float32Array).sort((a, b) => b - a);
}

/**
 * What llama.cpp makes of CLIP under a projector of LLaVA: the class token stands behind the patches, with the positions as they come, and
 * what is left out is the first token, a patch.
 */
async function misplacedFeatures(folder: string, pixels: Tensor): Promise<Tensor> {
  const path = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...config, vision_feature_select_strategy: 'full' }));
  const { model } = await loadCheckpoint(folder);
  writeFileSync(path, JSON.stringify(config));
  const { visionTower: tower, connector } = model;
  if (!(tower instanceof ClipTower) || !connector) throw new Error(`${folder} has no CLIP`);
  const { weight } = tower.visionModel.embeddings.positionEmbedding;
  weight.copy_(weight.roll(1, 0));
  const features = tower.forward(pixels); // the class token first
  const patches = features.size(1) - 1;
  return connector.forward(cat([features.narrow(1, 2, patches - 1), features.narrow(1, 0, 1)], 1));
}

/** How far probabilities may be apart: llama.cpp looks GELU up in a table of 16 bits. */
const limits = { f32: 2e-4, f16: 1e-3, q8_0: 1e-2 };

const rows: Record<string, string | number>[] = [];
function add(name: string, type: keyof typeof limits, mine: readonly number[], other: readonly number[]): void {
  const difference = apart(mine, other);
  rows.push({
    model: name,
    type,
    'largest difference': Number(difference.toPrecision(2)),
    'largest probability': Number((other[0] ?? 0).toPrecision(3)),
  });
  if (!(difference <= limits[type])) process.exitCode = 1;
}

const prompt = 'The cat sat on the mat, 12 times over; what is this thing?';
const wanted = process.argv.slice(2);
const chosen = (name: string): boolean => wanted.length === 0 || wanted.includes(name);

for (const [name, [language, kind]] of Object.entries(languages)) {
  if (!chosen(name)) continue;
  const { folder, model, tokenizer } = await make(name, kind, { language });
  for (const type of ['f32', 'q8_0'] as const) {
    const file = join(scratch, `${name}-${type}.gguf`);
    await convert(folder, file, { to: 'gguf', type });
    const { tokens, probabilities } = theirs({ file, prompt });
    const text = tokenizer.encode(prompt);
    const ids = tokenizer.addsBos ? [tokenizer.requireId(tokenizer.bosToken ?? ''), ...text] : text;
    if (text.join() !== tokens.join()) throw new Error(`${name}: the tokens are ${text.join(' ')} here, ${tokens.join(' ')} there`);
    add(name, type, ours(model, ids), probabilities);
  }
}
const [llama] = languages['llama'] as [PartConfig, string];
for (const [name, { special = [], misplaced = false, ...parts }] of Object.entries(seeing)) {
  if (!chosen(name)) continue;
  const { folder, model } = await make(name, 'bytes', { ...parts, language: llama, special });
  const side = parts.vision.imageSize;
  const pixels = randint(0, 256, [side, side, 3], { generator: new Generator(5) })
    .cast('uint8')
    .toArray() as Uint8Array;
  const image = join(scratch, `${name}.png`);
  await sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
    .png()
    .toFile(image);
  for (const type of ['f32', 'f16'] as const) {
    const file = join(scratch, `${name}-${type}.gguf`);
    await convert(folder, file, { to: 'gguf', type });
    const mmproj = join(scratch, `mmproj-${name}-${type}.gguf`);
    const seen = theirs({ file, mmproj, image, prompt: 'The <__media__> sat on the mat' });
    const places = seen.tokens.filter((id) => id < 0).length / model.imageTokens;
    const ids = seen.tokens.map((id) => (id < 0 ? (model.config.imageTokenId ?? 0) : id));
    const one = await (await ImageProcessor.open(folder)).load(image);
    const mine = ours(model, ids, { pixels: one.repeat(places, 1, 1, 1) });
    if (!misplaced) add(name, type, mine, seen.probabilities);
    else
      add(`${name}, class token last`, type, ours(model, ids, { imageFeatures: await misplacedFeatures(folder, one) }), seen.probabilities);
  }
}
console.table(rows);
