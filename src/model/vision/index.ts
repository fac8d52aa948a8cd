import { clip } from './clip.ts';
import { convVit } from './conv-vit.ts';
import { dinov2 } from './dinov2.ts';
import { dinov2Registers } from './dinov2-registers.ts';
import { dinov3 } from './dinov3.ts';
import { efficientNetLite } from './efficientnet-lite.ts';
import { internVl } from './internvl.ts';
import { mof } from './mof.ts';
import { siglip } from './siglip.ts';
import { siglip2 } from './siglip2.ts';

/** Vision towers by the `type` in a configuration. */
export const visionTowers = {
  clip,
  siglip,
  siglip2,
  dinov2,
  'dinov2-registers': dinov2Registers,
  dinov3,
  internvl: internVl,
  mof,
  'efficientnet-lite': efficientNetLite,
  'conv-vit': convVit,
};
