import { ConfigError } from '../../errors.ts';
import type { PartConfig } from '../../model/part.ts';
import { resizePositions } from '../../model/vision/positions.ts';
import { featureIndices } from '../../model/vision/vit.ts';
import { cat } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Source } from '../source.ts';
import { type Fields, flag, float, PartSettings, whole } from './settings.ts';
import type { Made } from './tensors.ts';

/** A vision tower as llama.cpp has it. */
export interface GgufTower {
  readonly fields: Fields;
  readonly made: readonly Made[];
  /** The layers whose outputs are taken, counted from 0, the embeddings. */
  readonly layers: readonly number[];
  readonly classToken: boolean;
}

/** GGUF's names of what stands in a layer, of CLIP and SigLIP and of InternViT. */
const layerNames: Readonly<Record<string, string>> = {
  layer_norm1: 'ln1',
  layernorm_before: 'ln1',
  layer_norm2: 'ln2',
  layernorm_after: 'ln2',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.out_proj': 'attn_out',
  'attention.q_proj': 'attn_q',
  'attention.k_proj': 'attn_k',
  'attention.v_proj': 'attn_v',
  'attention.projection_layer': 'attn_out',
  'mlp.fc1': 'ffn_up',
  'mlp.fc2': 'ffn_down',
  lambda_1: 'ls1.weight',
  lambda_2: 'ls2.weight',
};

/** And of what stands around them. */
const wholeNames: Readonly<Record<string, string>> = {
  'embeddings.class_embedding': 'v.class_embd',
  'embeddings.cls_token': 'v.class_embd',
  'embeddings.patch_embedding.weight': 'v.patch_embd.weight',
  'embeddings.patch_embedding.bias': 'v.patch_embd.bias',
  'embeddings.patch_embeddings.projection.weight': 'v.patch_embd.weight',
  'embeddings.patch_embeddings.projection.bias': 'v.patch_embd.bias',
  'embeddings.position_embedding.weight': 'v.position_embd.weight',
  'embeddings.position_embeddings': 'v.position_embd.weight',
  'pre_layrnorm.weight': 'v.pre_ln.weight',
  'pre_layrnorm.bias': 'v.pre_ln.bias',
  'post_layernorm.weight': 'v.post_ln.weight',
  'post_layernorm.bias': 'v.post_ln.bias',
};

/** Positions [P, C] for the image that the tower is given. */
function positions(weight: Tensor, side: number, classToken: boolean): Tensor {
  const all = weight.reshape(-1, weight.size(-1));
  if (!classToken) return resizePositions(all, side);
  return cat([all.narrow(0, 0, 1), resizePositions(all.narrow(0, 1, all.size(0) - 1), side)]);
}

const prefix = 'model.vision_tower.';

function refuse(what: string): never {
  throw new ConfigError(`gguf: ${what}, which llama.cpp's image encoder does not compute`, { hint: 'convert it with --to hf instead' });
}

const other = { ffn_up: 'ffn_down', ffn_down: 'ffn_up' };

/** GGUF's name of a weight, if it is one that is run; `last` is the number of layers. */
function nameOf(key: string, { last, exchanged, postNorm }: { last: number; exchanged: boolean; postNorm: boolean }): string | undefined {
  const [, layer, part = '', kind] = /^encoder\.layers?\.(\d+)\.(.+?)(?:\.(weight|bias))?$/.exec(key) ?? [];
  if (layer === undefined) return key.startsWith('post_layernorm') && !postNorm ? undefined : wholeNames[key];
  if (Number(layer) >= last) return undefined;
  const name = layerNames[part] ?? '';
  return `v.blk.${layer}.${exchanged && name in other ? other[name as keyof typeof other] : name}${kind ? `.${kind}` : ''}`;
}

function checkInternVit(vision: PartConfig): void {
  if (vision['normType'] !== 'layer_norm' || vision['useQkNorm'] === true) refuse('an InternViT with RMS norms');
}

/**
 * The vision tower of a source for llama.cpp, cut behind the last layer whose output is taken. `exchanges` says
 * that llama.cpp takes a perceptron as wide as its tower for one of old files, which had its two matrices exchanged. Throws ConfigError for
 * other towers than CLIP, SigLIP and InternViT, and for settings that llama.cpp does not compute.
 */
export function ggufTower({ config: { vision }, model, weights, image }: Source, { exchanges }: { exchanges: boolean }): GgufTower {
  if (!vision || !model.visionTower || !image) refuse('a language model alone');
  if (!['clip', 'siglip', 'internvl'].includes(vision.type)) refuse(`a vision tower ${vision.type}`);
  if (vision.type === 'internvl') checkInternVit(vision);
  const settings = new PartSettings(vision);
  const classToken = vision.type !== 'siglip';
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

  const naming = { last, exchanged: exchanges && inner === width, postNorm: vision['postNorm'] === true };
  const made: Made[] = [];
  for (const [key] of model.namedParameters()) {
    if (!key.startsWith(prefix)) continue;
    const name = nameOf(key.slice(prefix.length).replace(/^vision_model\./, ''), naming);
    const keys = [key];
    if (name === 'v.position_embd.weight') {
      const shape = [side ** 2 + Number(classToken), width];
      made.push({ name, keys, shape, make: (weight) => positions(weight as Tensor, side, classToken), type: 'F32' });
    } else if (name === 'v.class_embd') made.push({ name, keys, shape: [width], make: (weight) => (weight as Tensor).reshape(width) });
    else if (name !== undefined) made.push({ name, keys, shape: weights.shape(key) });
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
