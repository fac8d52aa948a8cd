import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { snakeCase } from '../../nn/module.ts';
import { cat } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Json, type PartConfig, part } from '../part.ts';
import { ClipConfig, ClipTower } from './clip.ts';
import { Dinov2Config, Dinov2Tower } from './dinov2.ts';
import { VisionTower } from './vision-tower.ts';
import { FeatureLayer } from './vit.ts';

const Clip = ClipConfig.omit({ type: true, featureLayer: true, select: true });
const Dinov2 = Dinov2Config.omit({ type: true, featureLayer: true, select: true, inputSize: true });

/** Settings of the two towers; both see the same image, at CLIP's resolution. */
export const MofConfig = z.strictObject({
  type: z.literal('mof'),
  clip: Clip.prefault({}),
  dinov2: Dinov2.prefault({}),
  featureLayer: FeatureLayer.default(-2),
  /** `patch` leaves both class tokens out, `cls_patch` keeps them. */
  select: z.enum(['patch', 'cls_patch']).default('patch'),
});
export type MofConfig = z.output<typeof MofConfig>;

/**
 * CLIP and DINOv2 together (mixture of features): CLIP's features of each token in front, DINOv2's behind. Tong et al. 2024, arXiv:2401.06209.
 */
export class MofTower extends VisionTower {
  readonly clip: ClipTower;
  readonly dinov2: Dinov2Tower;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;

  constructor({ clip, dinov2, featureLayer, select }: MofConfig) {
    super();
    this.clip = new ClipTower({ ...clip, type: 'clip', featureLayer, select });
    this.imageSize = this.clip.imageSize;
    this.dinov2 = new Dinov2Tower({ ...dinov2, inputSize: this.imageSize, featureLayer, select });
    this.hiddenSize = this.clip.hiddenSize + this.dinov2.hiddenSize;
    this.tokens = this.clip.tokens;
    if (this.dinov2.tokens !== this.tokens) {
      throw new ConfigError(`mof: CLIP makes ${this.tokens} tokens of an image of ${this.imageSize} pixels, DINOv2 ${this.dinov2.tokens}`, {
        hint: 'choose patches of equal size',
      });
    }
  }

  forward(pixels: Tensor): Tensor {
    return cat([this.clip.forward(pixels), this.dinov2.forward(pixels)], 2);
  }
}

/** A tower with its weights, and its settings. */
export interface LoadedTower {
  readonly tower: VisionTower;
  readonly config: PartConfig;
}

/** A CLIP and a DINOv2 as one tower; `settings` are its own. Throws ConfigError. */
export function joinMof(towers: Record<'clip' | 'dinov2', LoadedTower>, settings: Json): LoadedTower {
  const section = (type: keyof typeof towers, { shape }: z.ZodObject): Json => {
    const { config } = towers[type];
    if (config.type !== type) throw new ConfigError(`mof: its ${type} is a ${config.type}`);
    return Object.fromEntries(Object.keys(shape).map((key) => [key, config[key]]));
  };
  const config = mof.parse({ ...settings, type: 'mof', clip: section('clip', Clip), dinov2: section('dinov2', Dinov2) }, 'vision');
  return { tower: Object.assign(mof.create(config, undefined), { clip: towers.clip.tower, dinov2: towers.dinov2.tower }), config };
}

/** The fields that the schema has; a section of a published config.json has many more. */
function known(section: unknown, schema: z.ZodObject): Json {
  const fields = new Set(Object.keys(schema.shape).map(snakeCase));
  return Object.fromEntries(Object.entries((section ?? {}) as Json).filter(([key, value]) => fields.has(key) && value !== null));
}

/** The registry entry of CLIP and DINOv2 together. */
export const mof = part({
  modelType: 'mof',
  schema: MofConfig,
  make: MofTower,
  read: ({ vision_feature_layer, vision_feature_select_strategy, clip, dinov2, ...json }) => ({
    ...json,
    clip: known(clip, Clip),
    dinov2: known(dinov2, Dinov2),
    feature_layer: vision_feature_layer ?? null,
    select: vision_feature_select_strategy === 'full' ? 'cls_patch' : 'patch',
  }),
  write: ({ feature_layer, select, ...json }) => ({
    ...json,
    vision_feature_layer: feature_layer,
    vision_feature_select_strategy: select === 'patch' ? 'default' : 'full',
  }),
});
