import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';

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
    resample: z.enum(['bilinear', 'bicubic']).default('bicubic'),
    /** `pad` makes the image square with the mean colour before resizing, so that nothing is cropped or stretched. */
    aspect: z.enum(['square', 'pad']).default('square'),
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
const known = ['CLIPImageProcessor', 'CLIPFeatureExtractor', 'SiglipImageProcessor', 'LlavaImageProcessor'] as const;
const PreprocessorConfig = z.strictObject({
  image_processor_type: z
    .string()
    .transform((name) => name.replace(/(Fast|Pil)$/, ''))
    .pipe(z.enum(known))
    .optional(),
  feature_extractor_type: z.enum(known).optional(),
  processor_class: z.string().optional(),
  do_resize: on,
  size: z.union([pixels, edges, z.strictObject({ shortest_edge: pixels })]),
  resample: z.union([z.literal(2), z.literal(3)]).default(3),
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
  _processor_class: z.unknown().optional(),
});

/** Reads `preprocessor_config.json` of a CLIP, SigLIP or LLaVA image processor, or the same inside `processor_config.json`. Throws CheckpointError for what it does not understand. */
export async function readImageConfig(folder: string): Promise<ImageConfig> {
  const file = join(folder, 'preprocessor_config.json');
  const found = (await readJson(file)) ?? (await readJson(join(folder, 'processor_config.json')))?.['image_processor'];
  if (found === undefined) {
    throw new CheckpointError(`${folder} has no preprocessor_config.json`, {
      hint: 'copy it from the vision tower, or from a model that uses the same tower',
    });
  }
  const parsed = PreprocessorConfig.safeParse(found);
  if (!parsed.success) {
    throw new CheckpointError(`${file} asks for what is not supported: ${z.prettifyError(parsed.error)}`, {
      hint: 'CLIP, SigLIP and LLaVA image processors are supported',
      cause: parsed.error,
    });
  }
  const { data } = parsed;
  // LLaVA's and CLIP's older files write one number: the shortest edge, and a square crop
  const size =
    typeof data.size === 'number'
      ? { shortestEdge: data.size }
      : 'shortest_edge' in data.size
        ? { shortestEdge: data.size.shortest_edge }
        : data.size;
  const crop = typeof data.crop_size === 'number' ? { height: data.crop_size, width: data.crop_size } : data.crop_size;
  const config = ImageConfig.safeParse({
    size,
    ...(data.do_center_crop && crop ? { crop } : {}),
    resample: data.resample === 2 ? 'bilinear' : 'bicubic',
    aspect: data.do_pad ? 'pad' : 'square',
    rescale: data.rescale_factor,
    ...(data.do_normalize !== false && data.image_mean ? { mean: data.image_mean } : {}),
    ...(data.do_normalize !== false && data.image_std ? { std: data.image_std } : {}),
  });
  if (!config.success) throw new CheckpointError(`${file} cannot be used: ${z.prettifyError(config.error)}`, { cause: config.error });
  return config.data;
}

/** Writes `preprocessor_config.json` so that transformers' AutoImageProcessor makes the same pixels. */
export async function writeImageConfig(folder: string, config: ImageConfig): Promise<void> {
  const type = config.aspect === 'pad' ? 'LlavaImageProcessor' : config.crop ? 'CLIPImageProcessor' : 'SiglipImageProcessor';
  const json = {
    image_processor_type: type,
    do_convert_rgb: true,
    ...(config.aspect === 'pad' ? { do_pad: true } : {}),
    do_resize: true,
    size: 'shortestEdge' in config.size ? { shortest_edge: config.size.shortestEdge } : config.size,
    resample: config.resample === 'bilinear' ? 2 : 3,
    ...(config.crop ? { do_center_crop: true, crop_size: config.crop } : config.aspect === 'pad' ? { do_center_crop: false } : {}),
    do_rescale: true,
    rescale_factor: config.rescale,
    do_normalize: true,
    image_mean: config.mean,
    image_std: config.std,
  };
  await writeFile(join(folder, 'preprocessor_config.json'), `${JSON.stringify(json, null, 2)}\n`);
}

async function readJson(file: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CheckpointError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
