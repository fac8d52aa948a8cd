import { clip } from './clip.ts';
import { convVit } from './conv-vit.ts';
import { siglip } from './siglip.ts';

/** Vision towers by the `type` in a configuration. */
export const visionTowers = { clip, siglip, 'conv-vit': convVit };
