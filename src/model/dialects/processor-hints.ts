import type { Json } from '../part.ts';

/** What the code of a published model knows of images and conversations and its files do not say. */
export interface ProcessorHints {
  /** What preprocessor_config.json would say. */
  readonly preprocessor?: Json;
  /** How conversations are written: Vicuna's turns, each answer followed by the tokenizer's eos, or a template by name. */
  readonly template: 'vicuna' | 'chatml' | 'nanovlm';
}

/** Mean and deviation of the colours that towers were trained with. */
export const normalizations = {
  clip: { image_mean: [0.48145466, 0.4578275, 0.40821073], image_std: [0.26862954, 0.26130258, 0.27577711] },
  siglip: { image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] },
  dinov2: { image_mean: [0.485, 0.456, 0.406], image_std: [0.229, 0.224, 0.225] },
};

/** The preprocessor_config.json that is published with a CLIP or a SigLIP; with `pad` images are made square first, as LLaVA-1.5 does. */
export function preprocessorOf(vision: Json, { pad }: { pad: boolean }): Json | undefined {
  const { model_type, image_size } = vision;
  if (typeof image_size !== 'number') return undefined;
  if (model_type === 'siglip_vision_model') {
    return {
      image_processor_type: pad ? 'LlavaImageProcessor' : 'SiglipImageProcessor',
      do_pad: pad,
      size: { height: image_size, width: image_size },
      ...normalizations.siglip,
    };
  }
  if (model_type !== 'clip_vision_model') return undefined;
  return {
    image_processor_type: pad ? 'LlavaImageProcessor' : 'CLIPImageProcessor',
    do_pad: pad,
    size: { shortest_edge: image_size },
    do_center_crop: true,
    crop_size: { height: image_size, width: image_size },
    ...normalizations.clip,
  };
}
