import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { wholeImage } from '../../src/model/image-layout.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { decodeImage } from '../../src/processor/image-decode.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { largestDifference } from '../matchers.ts';
import { referenceFolder } from './reference.ts';

const folder = join(referenceFolder, 'processor-images');
const expected = openSafetensors(join(folder, 'expected.safetensors'));
const values = (name: string): Float32Array | Uint8Array => expected.tensor(name).toArray() as Float32Array | Uint8Array;
const temporary = (): Promise<string> => mkdtemp(join(tmpdir(), 'tinyllava-image-'));
const decoded = expected.names.filter((name) => name.startsWith('decoded ')).map((name) => name.slice('decoded '.length));

test.each(decoded)('%s decodes to the bytes that Pillow gives', async (file) => {
  const { data, width, height } = await decodeImage(join(folder, file));
  expect([height, width, 3]).toEqual(expected.shape(`decoded ${file}`));
  expect(Buffer.compare(data, values(`decoded ${file}`) as Uint8Array)).toBe(0);
});

test('path, bytes and data: URL give the same pixels', async () => {
  const bytes = await readFile(join(folder, 'rgb.png'));
  const path = await decodeImage(join(folder, 'rgb.png'));
  expect(await decodeImage(new Uint8Array(bytes))).toEqual(path);
  expect(await decodeImage(`data:image/png;base64,${bytes.toString('base64')}`)).toEqual(path);
});

describe('an image that cannot be used is refused by name:', () => {
  const message = async (make: (folder: string) => Promise<string>): Promise<string> => {
    const at = await temporary();
    const source = await make(at);
    return decodeImage(source).then(
      () => 'decoded',
      (error: Error) => error.message.replaceAll(at, '…'),
    );
  };
  const cut = (file: string, share: number) => async (at: string) => {
    const bytes = await readFile(join(folder, file));
    await writeFile(join(at, file), bytes.subarray(0, Math.floor(bytes.length * share)));
    return join(at, file);
  };

  test('a missing file', async () =>
    expect(await message(async (at) => join(at, 'none.jpg'))).toMatchInlineSnapshot(`"…/none.jpg does not exist"`));
  test('a folder', async () =>
    expect(await message(async (at) => at)).toMatchInlineSnapshot(`"… cannot be read: EISDIR: illegal operation on a directory, read"`));
  test('an empty file', async () => expect(await message(cut('rgb.png', 0))).toMatchInlineSnapshot(`"…/rgb.png is empty (0 bytes)"`));
  test('a JPEG cut off', async () =>
    expect(await message(cut('rgb.jpg', 0.8))).toMatchInlineSnapshot(
      `"…/rgb.jpg cannot be decoded as an image: its pixels are cut off or broken"`,
    ));
  test('a PNG cut off', async () =>
    expect(await message(cut('rgb.png', 0.5))).toMatchInlineSnapshot(
      `"…/rgb.png cannot be decoded as an image: its pixels are cut off or broken"`,
    ));
  test('a WebP cut off', async () =>
    expect(await message(cut('rgb.webp', 0.5))).toMatchInlineSnapshot(
      `"…/rgb.webp cannot be decoded as an image: Input buffer has corrupt header"`,
    ));
  test('a GIF cut off', async () =>
    expect(await message(cut('rgb.gif', 0.6))).toMatchInlineSnapshot(
      `"…/rgb.gif cannot be decoded as an image: Input buffer has corrupt header"`,
    ));
  test('images cut off beside each other, each by its own reason', async () => {
    const cuts = [cut('rgb.jpg', 0.8), cut('rgb.png', 0.5), cut('rgb.gif', 0.6)];
    const said = await Promise.all(Array.from({ length: 60 }, (_, i) => message(cuts[i % 3] ?? cut('rgb.jpg', 0.8))));
    expect(new Set(said).size).toBe(3);
  });
  test('text', async () =>
    expect(
      await message(async (at) => {
        await writeFile(join(at, 'page.jpg'), '<html>not found</html>');
        return join(at, 'page.jpg');
      }),
    ).toMatchInlineSnapshot(`"…/page.jpg cannot be decoded as an image: Input buffer contains unsupported image format"`));
  test('more pixels than are decoded', async () =>
    expect(
      await message(async (at) => {
        await sharp({ create: { width: 17_000, height: 17_000, channels: 3, background: 'red' }, limitInputPixels: false })
          .png()
          .toFile(join(at, 'huge.png'));
        return join(at, 'huge.png');
      }),
    ).toMatchInlineSnapshot(`"…/huge.png cannot be decoded as an image: Input image exceeds pixel limit"`));
  test('a web address', async () =>
    expect(await message(async () => 'https://example.org/a.jpg')).toMatchInlineSnapshot(`"https://example.org/a.jpg is a web address"`));
  test('a data: URL that is not base64', async () =>
    expect(await message(async () => 'data:image/svg+xml,<svg/>')).toMatchInlineSnapshot(
      `"the image in a data: URL (data:image/svg+xml,<svg/>…) is not base64"`,
    ));
});

describe.each(['clip', 'clip-larger', 'siglip', 'siglip-bilinear', 'siglip-wider-but-lower', 'llava-pad'])('the %s processor', (name) => {
  test.each(['rgb.png', 'exif-rotated.jpg', 'rgb.jpg'])('makes the pixels of transformers from %s', async (file) => {
    const processor = await ImageProcessor.open(join(folder, name));
    const pixels = await processor.load(join(folder, file));
    const golden = values(`${name} ${file}`);
    expect(pixels.shape).toEqual([1, 3, processor.height, processor.width]);
    expect(pixels.dtype).toBe('float32');
    // one level of 255, two where the image grows, and few of them: the resizing filters round differently
    const levels = golden.length / 3;
    const received = Array.from(
      pixels.toArray() as Float32Array,
      (value, i) => value * (processor.config.std[Math.floor(i / levels)] ?? 0) * 255,
    );
    const wanted = Array.from(golden, (value, i) => value * (processor.config.std[Math.floor(i / levels)] ?? 0) * 255);
    expect(largestDifference(received, wanted).difference).toBeLessThan(name === 'clip-larger' ? 2.01 : 1.01);
    const apart = received.filter((value, i) => Math.abs(value - (wanted[i] ?? Number.NaN)) > 0.01).length;
    expect(apart / golden.length).toBeLessThan(0.01);
  });

  test('is written so that it opens as it was', async () => {
    const processor = await ImageProcessor.open(join(folder, name));
    const at = await temporary();
    await processor.save(at);
    expect((await ImageProcessor.open(at)).config).toEqual(processor.config);
    const original = JSON.parse(await readFile(join(folder, name, 'preprocessor_config.json'), 'utf8'));
    expect(JSON.parse(await readFile(join(at, 'preprocessor_config.json'), 'utf8'))).toEqual(original);
  });
});

test('without resizing the pixels are exact', async () => {
  const processor = new ImageProcessor({ size: { height: 31, width: 47 }, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] });
  const pixels = await processor.load(join(folder, 'rgb.png'));
  const golden = await decodeImage(join(folder, 'rgb.png'));
  expect(pixels.squeeze(0).permute(1, 2, 0).contiguous()).toMatchTensor(
    Array.from(golden.data, (value) => (value / 255 - 0.5) / 0.5),
    { atol: 1e-6 },
  );
});

test('pad puts the image in the middle of a square of the mean colour, rounded down', async () => {
  const processor = new ImageProcessor({ size: { height: 47, width: 47 }, mean: [0.48145466, 0.4578275, 0.40821073], aspect: 'pad' });
  const golden = await decodeImage(join(folder, 'rgb.png'));
  const bytes = processor.views(golden).squeeze(0).permute(1, 2, 0); // [47, 47, 3]
  expect(bytes.select(0, 0).select(0, 0).toList()).toEqual([122, 116, 104]);
  expect(Buffer.compare(bytes.narrow(0, 8, 31).contiguous().toArray() as Uint8Array, golden.data)).toBe(0);
  expect(bytes.select(0, 39).select(0, 46).toList()).toEqual([122, 116, 104]);
});

test('bytes that were kept stack to the pixels that load gives', async () => {
  const processor = await ImageProcessor.open(join(folder, 'clip'));
  const files = ['rgb.png', 'grey.jpg'].map((file) => join(folder, file));
  const stacked = processor.stack(await Promise.all(files.map((file) => processor.loadBytes(file))));
  expect(stacked.shape).toEqual([2, 3, 20, 20]);
  for (const [i, file] of files.entries()) expect(stacked.narrow(0, i, 1).equal(await processor.load(file))).toBe(true);
});

test('a line of one pixel is refused instead of filling the memory', async () => {
  const processor = new ImageProcessor({ size: { shortestEdge: 336 }, crop: { height: 336, width: 336 } });
  expect(() =>
    processor.views({ data: new Uint8Array(3 * 9000), width: 9000, height: 1 }, wholeImage, 'line.png'),
  ).toThrowErrorMatchingInlineSnapshot(`[DataError: line.png is 9000 x 1 pixels, which would become 3024000 x 336]`);
});

test('loading leaves nothing behind but what it gives', async () => {
  const { liveTensors } = await import('../../src/tensor/device.ts');
  const processor = await ImageProcessor.open(join(folder, 'llava-pad'));
  const before = liveTensors();
  await processor.loadBytes(join(folder, 'rgb.png'));
  expect(liveTensors()).toBe(before);
  const pixels = await processor.load(join(folder, 'rgb.png'));
  expect(liveTensors()).toBe(before + 1);
  pixels.free();
});

describe('preprocessor_config.json', () => {
  const config = async (change: Record<string, unknown>): Promise<string> => {
    const at = await temporary();
    const original = JSON.parse(await readFile(join(folder, 'clip', 'preprocessor_config.json'), 'utf8'));
    await writeFile(join(at, 'preprocessor_config.json'), JSON.stringify({ ...original, ...change }));
    return ImageProcessor.open(at).then(
      ({ config }) => JSON.stringify(config),
      (error: Error) => error.message.replaceAll(at, '…'),
    );
  };

  test('of older CLIP and LLaVA files with plain numbers is understood', async () => {
    expect(
      await config({ image_processor_type: undefined, feature_extractor_type: 'CLIPFeatureExtractor', size: 224, crop_size: 224 }),
    ).toContain('"size":{"shortestEdge":224},"crop":{"height":224,"width":224}');
  });
  test('of a fast processor is understood', async () => {
    const fast = {
      image_processor_type: 'CLIPImageProcessorFast',
      data_format: 'channels_first',
      device: null,
      disable_grouping: null,
      input_data_format: null,
      return_tensors: null,
      default_to_square: false,
    };
    expect(await config(fast)).toBe(await config({}));
  });
  test('inside processor_config.json is found', async () => {
    const at = await temporary();
    const original = JSON.parse(await readFile(join(folder, 'siglip', 'preprocessor_config.json'), 'utf8'));
    await writeFile(join(at, 'processor_config.json'), JSON.stringify({ image_processor: original, processor_class: 'LlavaProcessor' }));
    expect((await ImageProcessor.open(at)).config).toEqual((await ImageProcessor.open(join(folder, 'siglip'))).config);
  });
  test('of another kind is refused', async () =>
    expect(await config({ image_processor_type: 'ViltImageProcessor' })).toMatchInlineSnapshot(`
      "…/preprocessor_config.json asks for what is not supported: ✖ Invalid option: expected one of "CLIPImageProcessor"|"CLIPFeatureExtractor"|"SiglipImageProcessor"|"LlavaImageProcessor"|"LlavaNextImageProcessor"|"LlavaOnevisionImageProcessor"|"Idefics3ImageProcessor"|"SmolVLMImageProcessor"|"GotOcr2ImageProcessor"
        → at image_processor_type"
    `));
  test('with a filter that is not there is refused', async () =>
    expect(await config({ resample: 0 })).toMatchInlineSnapshot(`
    "…/preprocessor_config.json asks for what is not supported: ✖ Invalid input
      → at resample"
  `));
  test('with an unknown key is refused', async () =>
    expect(await config({ do_sharpen: true })).toMatchInlineSnapshot(
      `"…/preprocessor_config.json asks for what is not supported: ✖ Unrecognized key: "do_sharpen""`,
    ));
  test('with a crop larger than the image is refused', async () =>
    expect(await config({ crop_size: 30 })).toMatchInlineSnapshot(`
    "…/preprocessor_config.json cannot be used: ✖ crop must not be larger than size
      → at crop"
  `));
  test('without a crop images would differ in size', async () =>
    expect(await config({ do_center_crop: false })).toMatchInlineSnapshot(`
    "…/preprocessor_config.json cannot be used: ✖ size.shortestEdge needs a crop, or images differ in size
      → at size"
  `));
  test('that is missing is named', async () => {
    const at = await temporary();
    await expect(ImageProcessor.open(at)).rejects.toThrow(`${at} has no preprocessor_config.json`);
  });
});
