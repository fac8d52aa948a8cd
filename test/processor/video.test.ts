import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { contentParts, type InputMessage } from '../../src/processor/message.ts';
import { Processor } from '../../src/processor/processor.ts';
import { sampledFrames, videoFrames, withFrames } from '../../src/processor/video.ts';
import { splitWords, wordLevelTokenizer } from '../../src/processor/word-level.ts';
import { referenceFolder } from './reference.ts';

const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-video-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const animated = join(referenceFolder, 'processor-images/animated.gif');
const missing = spawnSync('ffmpeg', ['-version']).status === 0 ? '' : ' (needs ffmpeg)';

/** The grey of each frame, 0 to 255. */
async function greys(frames: readonly Uint8Array[]): Promise<number[]> {
  return Promise.all(frames.map(async (frame) => (await sharp(frame).stats()).channels[0]?.mean ?? -1));
}

test('frames are spread from the first to the last, and are no more than there are', () => {
  expect(sampledFrames(10, 4)).toEqual([0, 3, 6, 9]);
  expect(sampledFrames(3, 8)).toEqual([0, 1, 2]);
  expect(sampledFrames(5, 1)).toEqual([0]);
});

test('an animation gives its frames as images', async () => {
  const frames = await videoFrames(animated, 2);
  expect(await Promise.all(frames.map(async (frame) => (await sharp(frame).metadata()).width))).toEqual([10, 10]);
  const all = await greys(await videoFrames(animated, 3));
  expect(await greys(frames)).toEqual([all[0], all[2]]);
});

test.skipIf(missing !== '')(`a video gives exactly the frames that are sampled${missing}`, async () => {
  // Ten frames, each a grey of its own.
  for (let i = 0; i < 10; i++) {
    const frame = sharp({ create: { width: 32, height: 32, channels: 3, background: { r: 20 * i, g: 20 * i, b: 20 * i } } });
    writeFileSync(join(scratch, `${i}.png`), await frame.png().toBuffer());
  }
  const file = join(scratch, 'greys.mkv');
  execFileSync('ffmpeg', ['-v', 'error', '-framerate', '5', '-i', join(scratch, '%d.png'), '-c:v', 'ffv1', file]);
  const found = await greys(await videoFrames(file, 4));
  for (const [i, grey] of found.entries()) expect(Math.abs(grey - 60 * i)).toBeLessThan(3);
  expect(await videoFrames(file, 100)).toHaveLength(10);
});

test('a video stands among the parts of a message as its frames, shown whole', async () => {
  const messages: InputMessage[] = [
    {
      role: 'user',
      content: [
        { type: 'video', video: animated, frames: 2 },
        { type: 'text', text: 'What?' },
      ],
    },
    { role: 'assistant', content: 'blue' },
  ];
  const sampled = await withFrames(messages, 8);
  expect(sampled[0] && contentParts(sampled[0]).map((part) => (part.type === 'image' ? part.whole : part.text))).toEqual([
    true,
    true,
    'What?',
  ]);
  const image = new ImageProcessor({ size: { height: 8, width: 8 }, tiling: { type: 'dynamic', maxTiles: 4 } });
  const tokenizer = wordLevelTokenizer(splitWords('What? blue'));
  const processor = new Processor({ tokenizer, image, template: 'tiny', imageTokens: 3, videoFrames: 3 });
  expect((await processor.read(messages)).images.map(({ layout }) => layout.rows)).toEqual([0, 0]);
  const [question] = messages;
  const open = [
    {
      role: 'user',
      content: [
        { type: 'video', video: animated },
        { type: 'text', text: 'What?' },
      ],
    },
  ] as const;
  expect(question && (await processor.read(open)).images).toHaveLength(3);
});

test('that ffmpeg is not installed is no fault of a video', async () => {
  const path = process.env['PATH'];
  process.env['PATH'] = scratch;
  try {
    const error = await videoFrames(join(scratch, 'any.mp4'), 2).catch((cause: Error) => cause);
    expect(error).toBeInstanceOf(ConfigError);
  } finally {
    process.env['PATH'] = path;
  }
});

test('what is no video is refused by name', async () => {
  writeFileSync(join(scratch, 'broken.gif'), 'no video');
  await expect(videoFrames(join(scratch, 'broken.gif'), 2)).rejects.toThrow('broken.gif cannot be read: ');
  await expect(videoFrames(join(scratch, 'absent.webp'), 2)).rejects.toThrow('absent.webp cannot be read: ENOENT');
  const absent = await videoFrames(join(scratch, 'absent.mp4'), 2).catch((error: Error) => error.message);
  expect(absent).toContain(
    missing === '' ? 'absent.mp4 cannot be read as a video' : 'absent.mp4: videos are read by ffprobe, which is not installed',
  );
});
