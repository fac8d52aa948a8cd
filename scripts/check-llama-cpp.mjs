// Converts tiny random models for llama.cpp and compares what it computes with what this package does.
//   TINYLLAVA_LLAMA_NODE=…/node_modules/@fugood/llama.node node scripts/check-llama-cpp.mjs [name…]
// The module is npm's `@fugood/llama.node`, which carries llama.cpp; it is no dependency of this package.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { convert } from '../dist/export/index.js';
import { loadCheckpoint, saveCheckpoint } from '../dist/model/checkpoint.js';
import { createTinyLlava } from '../dist/model/tinyllava.js';
import { ImageProcessor } from '../dist/processor/image.js';
import { Tokenizer } from '../dist/processor/tokenizer.js';
import { Generator } from '../dist/tensor/random.js';

const module = process.env['TINYLLAVA_LLAMA_NODE'];
if (!module) {
  console.error('TINYLLAVA_LLAMA_NODE names no folder of @fugood/llama.node; npm install it anywhere outside this repository');
  process.exit(2);
}
const child = join(import.meta.dirname, 'llama-cpp/probabilities.mjs');
const reference = join(import.meta.dirname, '../test/reference');
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-llama-cpp-'));
process.on('exit', () => rmSync(scratch, { recursive: true }));

const tokenizers = { bytes: 'processor-tokenizer-byte-level', pieces: 'processor-tokenizer-prepend' };
const shape = { hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 3, numAttentionHeads: 4, numKeyValueHeads: 2, initializerRange: 0.2 };
const llama3 = { ropeType: 'llama3', ropeTheta: 500_000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 64 };
const factors = { ropeType: 'longrope', ropeTheta: 10_000, shortFactor: [1, 1.1, 1.3, 1.4], longFactor: [1.2, 2, 5, 9.5] };
const gemma = { ...shape, headDim: 8, queryPreAttnScalar: 8, slidingWindow: 6 };

/** Language models, by name: settings and kind of tokenizer. */
const languages = {
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
  'phi3-longrope': [{ type: 'phi3', ...shape, ropeParameters: factors, maxPositionEmbeddings: 4096, originalMaxPositionEmbeddings: 2048 }, 'pieces'],
  'phi3-longrope-long': [{ type: 'phi3', ...shape, ropeParameters: factors, maxPositionEmbeddings: 128, originalMaxPositionEmbeddings: 16 }, 'pieces'],
  stablelm: [{ type: 'stablelm', ...shape, useQkvBias: true, partialRotaryFactor: 0.5 }, 'bytes'],
  'stablelm-parallel': [{ type: 'stablelm', ...shape, useParallelResidual: true, qkLayernorm: true, tieWordEmbeddings: true, partialRotaryFactor: 0.5 }, 'bytes'],
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

/** Towers and connectors over the first language model. `around` is what llama.cpp writes beside an image, `twice` that it shows it again. */
const seeing = {
  'siglip-mlp': { vision: { type: 'siglip', ...vit, imageSize: 32, patchSize: 8, visionUseHead: false }, connector: { type: 'mlp' } },
  'siglip-mlp-last': { vision: { type: 'siglip', ...vit, imageSize: 32, patchSize: 8, visionUseHead: false, featureLayer: -1, postNorm: true }, connector: { type: 'mlp', bias: false } },
  'siglip-mlp-two-layers': { vision: { type: 'siglip', ...vit, intermediateSize: 32, imageSize: 32, patchSize: 8, visionUseHead: false, featureLayer: [-3, -2] }, connector: { type: 'mlp' } },
  'clip-mlp': { vision: { type: 'clip', ...vit, imageSize: 32, patchSize: 8 }, connector: { type: 'mlp' } },
  'siglip-ldp-v2': { vision: { type: 'siglip', ...vit, imageSize: 48, patchSize: 2, visionUseHead: false }, connector: { type: 'ldp-v2' } },
  'siglip-pixel-shuffle': {
    vision: { type: 'siglip', ...vit, imageSize: 32, patchSize: 4, visionUseHead: false, featureLayer: -1, postNorm: true },
    connector: { type: 'pixel-shuffle', factor: 2, layers: 1, bias: false },
    twice: true,
  },
  'clip-pixel-shuffle-mlp': {
    vision: { type: 'clip', ...vit, imageSize: 32, patchSize: 4, featureLayer: -1, hiddenAct: 'gelu_pytorch_tanh' },
    connector: { type: 'pixel-shuffle-mlp', factor: 2, hiddenAct: 'gelu_pytorch_tanh' },
    around: ['<img>', '</img>'],
  },
};

/** A folder with a random model and the tokenizer of a kind. */
async function make(name, kind, parts) {
  const folder = join(scratch, name);
  mkdirSync(folder);
  const from = join(reference, tokenizers[kind]);
  const tokenizer = await Tokenizer.open(from);
  const model = createTinyLlava({
    ...parts,
    language: { vocabSize: tokenizer.size + 3, ...parts.language },
    ...(parts.vision && { imageTokenId: tokenizer.size }),
  }).initialize(new Generator(1));
  await saveCheckpoint(folder, model);
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) cpSync(join(from, file), join(folder, file));
  if (parts.vision) {
    const side = parts.vision.imageSize;
    const centre = [0.5, 0.4, 0.6];
    await new ImageProcessor({ size: { height: side, width: side }, mean: centre, std: [0.5, 0.6, 0.7] }).save(folder);
  }
  return { folder, tokenizer, model: (await loadCheckpoint(folder)).model };
}

/** What llama.cpp makes of a prompt: its tokens, and the probabilities of the next one, the largest first. */
function theirs(job) {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, module, JSON.stringify(job)], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`llama.cpp ended with ${status ?? signal}:\n${stderr.slice(-2000)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

/** The largest difference of two lists of probabilities, the largest first. */
const apart = (a, b) => Math.max(...b.map((value, i) => Math.abs(value - (a[i] ?? 0))));

function ours(model, ids, pixels) {
  const hidden = model.hidden({ ids: Int32Array.from(ids), lengths: [ids.length], ...(pixels && { pixels }) });
  const last = hidden.narrow(0, ids.length - 1, 1);
  return Array.from(model.logits(last).softmax(-1).toArray()).sort((a, b) => b - a);
}

const prompt = 'The cat sat on the mat, 12 times over; what is this thing?';
const rows = [];
const wanted = process.argv.slice(2);
const chosen = (name) => wanted.length === 0 || wanted.includes(name);

for (const [name, [language, kind]] of Object.entries(languages)) {
  if (!chosen(name)) continue;
  const { folder, model, tokenizer } = await make(name, kind, { language });
  for (const type of ['f32', 'q8_0']) {
    const file = join(scratch, `${name}-${type}.gguf`);
    await convert(folder, file, { to: 'gguf', type });
    const { tokens, probabilities } = theirs({ file, prompt });
    const text = tokenizer.encode(prompt);
    const ids = tokenizer.addsBos ? [tokenizer.requireId(tokenizer.bosToken), ...text] : text;
    rows.push({ model: name, type, sameTokens: text.join() === tokens.join(), apart: apart(ours(model, ids), probabilities), most: probabilities[0] });
  }
}
console.table(rows);
