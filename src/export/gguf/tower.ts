import { ConfigError } from '../../errors.ts';
import { resizePositions } from '../../model/vision/positions.ts';
import { featureIndices } from '../../model/vision/vit.ts';
import { cat } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Source } from '../source.ts';
import { type Fields, flag, float, PartSettings, whole } from './settings.ts';
import type { Made } from './tensors.ts';

/** A CLIP or SigLIP as llama.cpp has it. */
export interface GgufTower {
  readonly fields: Fields;
  readonly made: readonly Made[];
  /** The layers whose outputs are taken, counted from 0, the embeddings. */
  readonly layers: readonly number[];
  readonly classToken: boolean;
}

const names: Readonly<Record<string, string>> = {
  layer_norm1: 'ln1',
  layer_norm2: 'ln2',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.out_proj': 'attn_out',
  'mlp.fc1': 'ffn_up',
  'mlp.fc2': 'ffn_down',
};

const prefix = 'model.vision_tower.vision_model.';

/** Positions [P, C] for the image that the tower is given. */
function positions(weight: Tensor, side: number, classToken: boolean): Tensor {
  if (!classToken) return resizePositions(weight, side);
  return cat([weight.narrow(0, 0, 1), resizePositions(weight.narrow(0, 1, weight.size(0) - 1), side)]);
}

function refuse(what: string): never {
  throw new ConfigError(`gguf: ${what}, which llama.cpp's image encoder does not compute`, { hint: 'convert it with --to hf instead' });
}

/** A layer's tensors. llama.cpp takes a perceptron as wide as the tower for one of old files, which had its two matrices exchanged. */
function layerTensor(key: string, shape: readonly number[], exchanged: boolean): Made {
  const [, layer, part = '', kind] = /layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(key) ?? [];
  const name = names[part] ?? '';
  const written = exchanged && /^ffn_/.test(name) ? (name === 'ffn_up' ? 'ffn_down' : 'ffn_up') : name;
  return { name: `v.blk.${layer}.${written}.${kind}`, keys: [key], shape };
}

/**
 * The vision tower of a source for llama.cpp, cut behind the last layer whose output is taken. Throws ConfigError for other towers than CLIP
 * and SigLIP, and for settings that llama.cpp does not compute.
 */
export function ggufTower({ config: { vision }, model, weights, image }: Source): GgufTower {
  if (!vision || !model.visionTower || !image) refuse('a language model alone');
  if (vision.type !== 'clip' && vision.type !== 'siglip') refuse(`a vision tower ${vision.type}`);
  const settings = new PartSettings(vision);
  const classToken = vision.type === 'clip';
  if (classToken && vision['select'] !== 'patch') refuse('a class token among the features');
  if (vision['dropFirstPatch'] === true) refuse('features without the first patch');
  if (settings.number('numChannels') !== 3) refuse(`images of ${settings.number('numChannels')} channels`);
  const activation = String(vision['hiddenAct']);
  if (!/^(quick_gelu|gelu.*|silu|swish)$/.test(activation)) refuse(`the activation ${activation}`);
  const layers = featureIndices(vision['featureLayer'] as number | number[], settings.number('numHiddenLayers'));
  if (layers.some((layer, i) => layer <= (layers[i - 1] ?? 0))) refuse(`features of the layers ${layers.join(', ')}`);
  const last = layers.at(-1) ?? 0;
  const side = Math.floor(model.visionTower.imageSize / settings.number('patchSize'));
  const width = settings.number('hiddenSize');
  const inner = settings.number('intermediateSize');

  const made: Made[] = [];
  const one = (key: string, name: string, more: Partial<Made> = {}): void => {
    const shape = weights.shape(prefix + key);
    made.push({ name, keys: [prefix + key], shape, ...more });
  };
  if (classToken) {
    one('embeddings.class_embedding', 'v.class_embd');
    for (const kind of ['weight', 'bias']) one(`pre_layrnorm.${kind}`, `v.pre_ln.${kind}`);
  } else one('embeddings.patch_embedding.bias', 'v.patch_embd.bias');
  one('embeddings.patch_embedding.weight', 'v.patch_embd.weight');
  one('embeddings.position_embedding.weight', 'v.position_embd.weight', {
    shape: [side ** 2 + Number(classToken), width],
    make: (weight) => positions(weight as Tensor, side, classToken),
    type: 'F32',
  });
  if (vision['postNorm'] === true) for (const kind of ['weight', 'bias']) one(`post_layernorm.${kind}`, `v.post_ln.${kind}`);
  for (const [key] of model.namedParameters()) {
    const layer = new RegExp(`^${prefix.replaceAll('.', '\\.')}encoder\\.layers\\.(\\d+)\\.`).exec(key)?.[1];
    if (layer !== undefined && Number(layer) < last) made.push(layerTensor(key, weights.shape(key), inner === width));
  }
  return {
    made,
    layers,
    classToken,
    fields: {
      'clip.vision.image_size': whole(model.visionTower.imageSize),
      'clip.vision.patch_size': whole(settings.number('patchSize')),
      'clip.vision.embedding_length': whole(width),
      'clip.vision.feed_forward_length': whole(inner),
      'clip.vision.block_count': whole(last),
      'clip.vision.attention.head_count': whole(settings.number('numAttentionHeads')),
      'clip.vision.attention.layer_norm_epsilon': float(settings.number('layerNormEps')),
      'clip.vision.image_mean': float(image.mean),
      'clip.vision.image_std': float(image.std),
      'clip.use_gelu': flag(activation.startsWith('gelu')),
      'clip.use_silu': flag(activation === 'silu' || activation === 'swish'),
    },
  };
}
