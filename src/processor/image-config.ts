import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';
import { Tiling } from './tiling.ts';

const pixels = z.int().positive();
const perChannel = z.tuple([z.number(), z.number(), z.number()]);

const Size = z.union([z.strictObject({ height: pixels, width: pixels }), z.strictObject({ shortestEdge: pixels })]);

/** How images become pixels for a vision tower. */
export const ImageConfig = z
  .strictObject({
    /** The size to resize to: exactly, or the shortest edge with the other in proportion. */
    size: Size,
    /** The part from the middle that is kept after resizing. */
    crop: z.strictObject({ height: pixels, width: pixels }).optional(),
    resample: z.enum(['lanczos', 'bilinear', 'bicubic']).default('bicubic'),
    /** `pad` makes the image square with the mean colour before resizing, so that nothing is cropped or stretched. */
    aspect: z.enum(['square', 'pad']).default('square'),
    /** Views of tiles beside the whole, for images of high resolution; each tile has the size above. */
    tiling: Tiling.optional(),
    rescale: z
      .number()
      .positive()
      .default(1 / 255),
    mean: perChannel.default([0, 0, 0]),
    std: perChannel.default([1, 1, 1]),
  })
  .refine(({ size, crop }) => crop === undefined || Math.max(crop.height, crop.width) <= shortestEdge(size), {
    error: 'crop must not be larger than size',
    path: ['crop'],
  })
  .refine(({ size, crop, tiling }) => !tiling || (!crop && 'height' in size && size.height === size.width), {
    error: 'tiles need a square size and no crop',
    path: ['tiling'],
  })
  .refine(({ size, crop }) => crop !== undefined || !('shortestEdge' in size), {
    error: 'size.shortestEdge needs a crop, or images differ in size',
    path: ['size'],
  });
export type ImageConfig = z.output<typeof ImageConfig>;
export type ImageConfigInput = z.input<typeof ImageConfig>;

function shortestEdge(size: z.output<typeof Size>): number {
  return 'shortestEdge' in size ? size.shortestEdge : Math.min(size.height, size.width);
}

// what transformers writes; keys that say "nothing" may be there, other values of them are refused
const edges = z.strictObject({ height: pixels, width: pixels });
const nothing = z.null().optional();
const on = z.literal(true).nullish();
const known = [
  'CLIPImageProcessor',
  'CLIPFeatureExtractor',
  'SiglipImageProcessor',
  'LlavaImageProcessor',
  'LlavaNextImageProcessor',
  'LlavaOnevisionImageProcessor',
  'Idefics3ImageProcessor',
  'SmolVLMImageProcessor',
  'GotOcr2ImageProcessor',
] as const;
const PreprocessorConfig = z.strictObject({
  image_processor_type: z
    .string()
    .transform((name) => name.replace(/(Fast|Pil)$/, ''))
    .pipe(z.enum(known))
    .optional(),
  feature_extractor_type: z.enum(known).optional(),
  processor_class: z.string().optional(),
  do_resize: on,
  size: z.union([pixels, edges, z.strictObject({ shortest_edge: pixels }), z.strictObject({ longest_edge: pixels })]),
  resample: z.union([z.literal(1), z.literal(2), z.literal(3)]).default(3),
  do_center_crop: z.boolean().nullish(),
  crop_size: z.union([pixels, edges]).nullish(),
  do_pad: z.boolean().nullish(),
  pad_size: nothing,
  do_rescale: on,
  rescale_factor: z
    .number()
    .positive()
    .default(1 / 255),
  do_normalize: z.boolean().nullish(),
  image_mean: perChannel.nullish(),
  image_std: perChannel.nullish(),
  do_convert_rgb: on,
  default_to_square: z.boolean().nullish(),
  disable_grouping: z.unknown().optional(),
  data_format: z.literal('channels_first').nullish(),
  input_data_format: nothing,
  return_tensors: nothing,
  device: nothing,
  image_seq_length: z.int().nullish(),
  image_grid_pinpoints: z.array(z.tuple([pixels, pixels])).optional(),
  aspect_ratio_setting: z.literal('anyres').optional(),
  do_image_splitting: z.boolean().nullish(),
  max_image_size: z.strictObject({ longest_edge: pixels }).optional(),
  return_row_col_info: z.boolean().nullish(),
  video_sampling: z.unknown().optional(),
  crop_to_patches: z.boolean().nullish(),
  min_patches: pixels.optional(),
  max_patches: pixels.optional(),
  _processor_class: z.unknown().optional(),
});

type PreprocessorConfig = z.output<typeof PreprocessorConfig>;

/** The size of a view and how it is cut: what the families of processors say in fields of their own. */
function geometry(
  data: PreprocessorConfig,
  processor: Record<string, unknown>,
): Pick<ImageConfigInput, 'size' | 'crop' | 'aspect' | 'tiling'> {
  const { size, image_grid_pinpoints: pinpoints } = data;
  const type = data.image_processor_type ?? data.feature_extractor_type;
  const edge =
    typeof size === 'number' ? size : 'shortest_edge' in size ? size.shortest_edge : 'longest_edge' in size ? undefined : size.height;
  if (pinpoints && edge !== undefined) {
    const most = /^anyres_max_(\d+)$/.exec(String(processor['vision_aspect_ratio'] ?? 'anyres_max_9'))?.[1];
    const onevision = type === 'LlavaOnevisionImageProcessor' && { several: 'whole' as const, maxTiles: Number(most) };
    return { size: { height: edge, width: edge }, tiling: { type: 'anyres', pinpoints, ...onevision } };
  }
  if (data.max_image_size) {
    const side = data.max_image_size.longest_edge;
    const longestEdge = typeof size === 'object' && 'longest_edge' in size ? size.longest_edge : side;
    return { size: { height: side, width: side }, tiling: { type: 'split', longestEdge, tiles: data.do_image_splitting !== false } };
  }
  if (type === 'GotOcr2ImageProcessor' && edge !== undefined) {
    // InternVL's processor asks for tiles whatever the image processor's file says.
    const tiled =
      data.crop_to_patches || data.processor_class === 'InternVLProcessor' || processor['processor_class'] === 'InternVLProcessor';
    const tiling = { type: 'dynamic', minTiles: data.min_patches ?? 1, maxTiles: data.max_patches ?? 12 } as const;
    return { size: { height: edge, width: edge }, ...(tiled && { tiling }) };
  }
  const crop = typeof data.crop_size === 'number' ? { height: data.crop_size, width: data.crop_size } : data.crop_size;
  return {
    // LLaVA's and CLIP's older files write one number: the shortest edge, and a square crop
    size: typeof size === 'object' && 'height' in size ? size : { shortestEdge: edge ?? 0 },
    ...(data.do_center_crop && crop ? { crop } : {}),
    aspect: data.do_pad ? 'pad' : 'square',
  };
}

const resamples = { 1: 'lanczos', 2: 'bilinear', 3: 'bicubic' } as const;

/**
 * Reads `preprocessor_config.json` of an image processor that is known, or the same inside `processor_config.json`; `instead` is what to read
 * where there is neither. Throws CheckpointError for what it does not understand.
 */
export async function readImageConfig(folder: string, instead?: Record<string, unknown>): Promise<ImageConfig> {
  const file = join(folder, 'preprocessor_config.json');
  const processor = (await readJson(join(folder, 'processor_config.json'))) ?? {};
  const found = (await readJson(file)) ?? processor['image_processor'] ?? instead;
  if (found === undefined) {
    throw new CheckpointError(`${folder} has no preprocessor_config.json`, {
      hint: 'copy it from the vision tower, or from a model that uses the same tower',
    });
  }
  const parsed = PreprocessorConfig.safeParse(found);
  if (!parsed.success) {
    throw new CheckpointError(`${file} asks for what is not supported: ${z.prettifyError(parsed.error)}`, {
      hint: `supported: ${known.join(', ')}`,
      cause: parsed.error,
    });
  }
  const { data } = parsed;
  const config = ImageConfig.safeParse({
    ...geometry(data, processor),
    resample: resamples[data.resample],
    rescale: data.rescale_factor,
    ...(data.do_normalize !== false && data.image_mean ? { mean: data.image_mean } : {}),
    ...(data.do_normalize !== false && data.image_std ? { std: data.image_std } : {}),
  });
  if (!config.success) throw new CheckpointError(`${file} cannot be used: ${z.prettifyError(config.error)}`, { cause: config.error });
  return config.data;
}

/** Writes `preprocessor_config.json` so that transformers' AutoImageProcessor makes the same pixels. */
export async function writeImageConfig(folder: string, config: ImageConfig): Promise<void> {
  const resample = Object.entries(resamples).find(([, name]) => name === config.resample)?.[0];
  const json = {
    do_convert_rgb: true,
    do_resize: true,
    resample: Number(resample),
    ...fieldsOf(config),
    do_rescale: true,
    rescale_factor: config.rescale,
    do_normalize: true,
    image_mean: config.mean,
    image_std: config.std,
  };
  await writeFile(join(folder, 'preprocessor_config.json'), `${JSON.stringify(json, null, 2)}\n`);
}

/** The fields in which families of processors differ. */
function fieldsOf({ size, crop, aspect, tiling }: ImageConfig): Record<string, unknown> {
  if (tiling?.type === 'anyres') {
    const onevision = tiling.several === 'whole';
    return {
      image_processor_type: onevision ? 'LlavaOnevisionImageProcessor' : 'LlavaNextImageProcessor',
      do_pad: true,
      ...(onevision ? {} : { do_center_crop: true, crop_size: size }),
      size,
      image_grid_pinpoints: tiling.pinpoints,
    };
  }
  if (tiling?.type === 'split') {
    return {
      image_processor_type: 'Idefics3ImageProcessor',
      do_pad: true,
      do_image_splitting: tiling.tiles,
      size: { longest_edge: tiling.longestEdge },
      max_image_size: { longest_edge: 'height' in size ? size.height : 0 },
    };
  }
  if (tiling?.type === 'dynamic') {
    const { minTiles, maxTiles } = tiling;
    return { image_processor_type: 'GotOcr2ImageProcessor', crop_to_patches: true, min_patches: minTiles, max_patches: maxTiles, size };
  }
  return {
    image_processor_type: aspect === 'pad' ? 'LlavaImageProcessor' : crop ? 'CLIPImageProcessor' : 'SiglipImageProcessor',
    size: 'shortestEdge' in size ? { shortest_edge: size.shortestEdge } : size,
    ...(aspect === 'pad' ? { do_pad: true } : {}),
    ...(crop ? { do_center_crop: true, crop_size: crop } : aspect === 'pad' ? { do_center_crop: false } : {}),
  };
}

async function readJson(file: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CheckpointError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
