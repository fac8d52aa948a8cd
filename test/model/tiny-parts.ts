import type { connectors } from '../../src/model/connector/index.ts';
import type { PartConfig } from '../../src/model/part.ts';
import type { visionTowers } from '../../src/model/vision/index.ts';

const shape = { hiddenSize: 8, numHiddenLayers: 2, numAttentionHeads: 2 };
const vit = { ...shape, intermediateSize: 12, imageSize: 16, patchSize: 4 };
const dino = { ...shape, imageSize: 16, patchSize: 4 };
const stage = { repeats: 2, kernel: 3, stride: 2, expand: 2, channels: 6 };

/** The smallest settings of every tower that make 16 tokens of 16 x 16 pixels. */
export const tinyTowers: Record<keyof typeof visionTowers, PartConfig> = {
  clip: { type: 'clip', ...vit },
  siglip: { type: 'siglip', ...vit },
  siglip2: { type: 'siglip2', ...shape, intermediateSize: 12, numPatches: 16, patchSize: 4 },
  dinov2: { type: 'dinov2', ...dino },
  'dinov2-registers': { type: 'dinov2-registers', ...dino, numRegisterTokens: 2 },
  dinov3: { type: 'dinov3', ...vit, numRegisterTokens: 2 },
  internvl: { type: 'internvl', ...vit },
  mof: { type: 'mof', clip: vit, dinov2: dino },
  'efficientnet-lite': { type: 'efficientnet-lite', imageSize: 16, stemChannels: 4, stages: [stage], hiddenSize: 8 },
  'conv-vit': { type: 'conv-vit', ...shape, intermediateSize: 12, imageSize: 16, stemChannels: [4, 6] },
};

/** Small settings of every connector, and what it makes of 16 tokens. */
export const tinyConnectors: Record<keyof typeof connectors, { settings: PartConfig; tokens: number }> = {
  identity: { settings: { type: 'identity' }, tokens: 16 },
  linear: { settings: { type: 'linear' }, tokens: 16 },
  mlp: { settings: { type: 'mlp' }, tokens: 16 },
  'pixel-shuffle': { settings: { type: 'pixel-shuffle' }, tokens: 4 },
  'pixel-shuffle-mlp': { settings: { type: 'pixel-shuffle-mlp', factor: 4 }, tokens: 1 },
  'ldp-v2': { settings: { type: 'ldp-v2', side: 3 }, tokens: 9 },
  'c-abstractor': { settings: { type: 'c-abstractor', numQueries: 4, hiddenSize: 6, depth: 1, numEosTokens: 2 }, tokens: 6 },
  resampler: { settings: { type: 'resampler', numQueries: 5, numLayers: 1, numAttentionHeads: 2, headSize: 4 }, tokens: 5 },
  qformer: { settings: { type: 'qformer', ...shape, intermediateSize: 12, numQueries: 3 }, tokens: 3 },
  'mof-mlp': { settings: { type: 'mof-mlp' }, tokens: 32 },
  'class-words': { settings: { type: 'class-words', classes: 5, words: 2, side: 3 }, tokens: 11 },
};
