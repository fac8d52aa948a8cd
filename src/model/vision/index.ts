import { clip } from './clip.ts';
import { convVit } from './conv-vit.ts';
import { dinov2 } from './dinov2.ts';
import { dinov2Registers } from './dinov2-registers.ts';
import { siglip } from './siglip.ts';

/** Vision towers by the `type` in a configuration. */
export const visionTowers = { clip, siglip, dinov2, 'dinov2-registers': dinov2Registers, 'conv-vit': convVit };
