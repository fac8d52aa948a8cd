import { normalizations } from '../model/dialects/processor-hints.ts';
import { ImageConfig } from '../processor/image-config.ts';

/** How images become pixels for a kind of tower where no file says it: as the image processor that was published with the tower does it. */
export function usualImage(tower: string, side: number): ImageConfig {
  const family = tower === 'mof' || tower === 'clip' ? 'clip' : tower.startsWith('dino') ? 'dinov2' : 'siglip';
  const { image_mean: mean, image_std: std } = normalizations[family];
  const square = { height: side, width: side };
  return ImageConfig.parse(family === 'siglip' ? { size: square, mean, std } : { size: { shortestEdge: side }, crop: square, mean, std });
}
