import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { ConfigError, DataError } from '../errors.ts';
import { readError } from '../read-error.ts';
import { type ContentPart, contentParts, type InputMessage, type Message } from './message.ts';

const run = promisify(execFile);

/** Frames that a video is sampled to unless said otherwise. */
export const defaultFrames = 8;

/** As many numbers of frames as wanted, spread from the first to the last. Fewer where there are fewer frames. */
export function sampledFrames(total: number, wanted: number): number[] {
  const count = Math.min(total, wanted);
  return Array.from({ length: count }, (_, i) => (count === 1 ? 0 : Math.trunc((i * (total - 1)) / (count - 1))));
}

/** Conversations in which each video is its frames, sampled evenly and shown whole. Throws DataError. */
export async function withFrames(messages: readonly InputMessage[], frames: number): Promise<readonly Message[]> {
  if (!messages.some((message) => contentParts(message).some(({ type }) => type === 'video'))) return messages as readonly Message[];
  return Promise.all(
    messages.map(async (message): Promise<Message> => {
      const parts = await Promise.all(
        contentParts(message).map(async (part): Promise<ContentPart[]> => {
          if (part.type !== 'video') return [part];
          const sampled = await videoFrames(part.video, part.frames ?? frames);
          return sampled.map((image) => ({ type: 'image', image, whole: true }));
        }),
      );
      return { role: message.role, content: parts.flat() };
    }),
  );
}

/**
 * Frames of a video file, spread evenly from its first to its last, as encoded images. Animated GIF and WebP are read by the image library, all
 * else by the `ffmpeg` on the PATH. Throws DataError, and ConfigError where that is not installed, for which no row is to be left out.
 */
export async function videoFrames(file: string, count: number): Promise<Uint8Array[]> {
  if (/\.(gif|webp)$/i.test(file)) return animationFrames(file, count);
  const { stdout } = await tool(
    'ffprobe',
    [...['-v', 'error', '-select_streams', 'v:0', '-count_packets', '-show_entries', 'stream=nb_read_packets', '-of', 'json', file]],
    file,
  );
  const total = Number((JSON.parse(stdout.toString()) as { streams?: { nb_read_packets?: string }[] }).streams?.[0]?.nb_read_packets ?? 0);
  if (total === 0) throw new DataError(`${file} has no pictures`, { hint: 'give a video, or leave it out' });
  const wanted = sampledFrames(total, count);
  const filter = `select='${wanted.map((frame) => `eq(n,${frame})`).join('+')}'`;
  const stills = await tool(
    'ffmpeg',
    [...['-v', 'error', '-i', file, '-map', '0:v:0', '-vf', filter, '-fps_mode', 'passthrough', '-f', 'image2pipe', '-c:v', 'png', '-']],
    file,
  );
  const found = splitPng(stills.stdout);
  if (found.length === 0) throw new DataError(`${file} gave no frames`, { hint: 'it may be cut off; fetch it again, or leave it out' });
  return found;
}

async function animationFrames(file: string, count: number): Promise<Uint8Array[]> {
  try {
    const bytes = await readFile(file);
    const { pages = 1 } = await sharp(bytes).metadata();
    return await Promise.all(sampledFrames(pages, count).map((page) => sharp(bytes, { page }).png().toBuffer()));
  } catch (cause) {
    throw readError(`${file} cannot be read: ${(cause as Error).message.replace(/\s+/g, ' ')}`, { hint: 'check the path', cause });
  }
}

async function tool(name: string, args: readonly string[], file: string): Promise<{ stdout: Buffer }> {
  try {
    return await run(name, [...args], { encoding: 'buffer', maxBuffer: 2 ** 31 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new ConfigError(`${file}: videos are read by ${name}, which is not installed`, {
        hint: 'install ffmpeg, or give the frames as images',
        cause,
      });
    }
    const said = String((cause as { stderr?: Buffer }).stderr ?? (cause as Error).message)
      .trim()
      .split('\n')
      .at(-1);
    throw readError(`${file} cannot be read as a video: ${said}`, { hint: 'check the path, or convert it to MP4', cause });
  }
}

const end = Buffer.from('IEND');

/** PNG files one behind the other; each ends four bytes (a checksum) behind the name of its last chunk. */
function splitPng(bytes: Buffer): Uint8Array[] {
  const files: Uint8Array[] = [];
  let start = 0;
  for (let at = bytes.indexOf(end); at >= 0; at = bytes.indexOf(end, start)) {
    files.push(bytes.subarray(start, at + 8));
    start = at + 8;
  }
  return files;
}
