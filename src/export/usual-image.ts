import { ImageConfig } from '../processor/image-config.ts';

const normalizations: Readonly<Record<string, Pick<ImageConfig, 'mean' | 'std'>>> = {
  clip: { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] },
  siglip: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  dinov2: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
};

/** How images become pixels for a kind of tower where no file says it: as the image processor that was published with the tower does it. */
export function usualImage(tower: string, side: number): ImageConfig {
  const family = tower === 'mof' ? 'clip' : tower.startsWith('dino') ? 'dinov2' : tower;
  const normalization = normalizations[family] ?? normalizations['siglip'];
  const square = { height: side, width: side };
  return ImageConfig.parse(
    family === 'siglip' || !(family in normalizations)
      ? { size: square, ...normalization }
      : { size: { shortestEdge: side }, crop: square, ...normalization },
  );
}
