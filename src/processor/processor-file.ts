import type { ImageProcessor } from './image.ts';
import type { ImageSpelling } from './image-spelling.ts';

/** What processor_config.json says of images in the text: enough for transformers to write as many placeholders. */
export function processorJson(
  image: ImageProcessor,
  { spelling, imageToken, imageTokens }: { spelling: ImageSpelling; imageToken: string; imageTokens: number },
): Record<string, unknown> {
  const { tiling } = image.config;
  if (spelling === 'idefics3') return { processor_class: 'Idefics3Processor', image_seq_len: imageTokens };
  if (spelling === 'internvl') return { processor_class: 'InternVLProcessor', image_seq_length: imageTokens };
  if (tiling?.type !== 'anyres') {
    return { processor_class: 'LlavaProcessor', image_token: imageToken, ...patchesFor(imageTokens, image) };
  }
  // What a view takes, without the token that ends it.
  const viewTokens = imageTokens - 1;
  const common = { image_token: imageToken, vision_feature_select_strategy: 'full' };
  if (tiling.several === 'tiles') return { processor_class: 'LlavaNextProcessor', ...common, ...patchesFor(viewTokens, image) };
  const ratio = tiling.maxTiles === undefined ? {} : { vision_aspect_ratio: `anyres_max_${tiling.maxTiles}` };
  return { processor_class: 'LlavaOnevisionProcessor', ...common, num_image_tokens: viewTokens, ...ratio };
}

/** The spelling that a processor_config.json, or a tokenizer's config of before, asks for by its class. */
export function spellingOf(processorClass: unknown): ImageSpelling {
  if (processorClass === 'Idefics3Processor' || processorClass === 'SmolVLMProcessor') return 'idefics3';
  return processorClass === 'InternVLProcessor' ? 'internvl' : 'plain';
}

/** What makes transformers' LlavaProcessor write as many placeholders: a square grid of patches, where the count is one. */
function patchesFor(imageTokens: number, { height, width }: ImageProcessor): Record<string, unknown> {
  const side = Math.sqrt(imageTokens);
  const patch = Math.floor(height / side);
  const fits = Number.isInteger(side) && height === width && Math.floor(height / patch) === side;
  return fits ? { patch_size: patch, num_additional_image_tokens: 0, vision_feature_select_strategy: 'full' } : {};
}
