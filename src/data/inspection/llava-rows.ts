import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { contentParts, type ImageSource, type InputMessage } from '../../processor/message.ts';
import type { Row } from '../rows.ts';

const roles = { system: 'system', user: 'human', assistant: 'gpt' } as const;

/** Writes rows of any form as LLaVA's; images that are bytes become files in `folder`, which `name` leads to from the file of rows. */
export class LlavaRows {
  readonly #folder: string;
  readonly #name: string;

  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** Row `index` as JSON on one line. */
  async text(index: number, { id, messages }: Row): Promise<string> {
    const images: string[] = [];
    const videos: string[] = [];
    for (const part of messages.flatMap<{ type: string; image?: ImageSource; video?: string }>(contentParts)) {
      if (part.image !== undefined) images.push(await this.#place(part.image, `${index}-${images.length}`));
      if (part.video !== undefined) videos.push(resolve(part.video));
    }
    return JSON.stringify({
      ...(id !== undefined && { id }),
      ...(images.length > 0 && { image: one(images) }),
      ...(videos.length > 0 && { video: one(videos) }),
      conversations: messages.map((message) => ({ from: roles[message.role], value: textOf(message) })),
    });
  }

  /** Where the row finds an image. */
  async #place(image: ImageSource, name: string): Promise<string> {
    if (typeof image === 'string') return image.startsWith('data:') ? image : resolve(image);
    const file = `${name}.${endingOf(image)}`;
    await writeFile(join(this.#folder, file), image);
    return `${basename(this.#name)}/${file}`;
  }
}

const one = (files: readonly string[]): string | readonly string[] => (files.length === 1 ? (files[0] as string) : files);

/** Parts as text with tags; an image in front has a line of its own, as LLaVA writes it. */
function textOf(message: InputMessage): string {
  return contentParts(message)
    .map((part, i, { length }) => {
      if (part.type === 'text') return part.text;
      const tag = part.type === 'image' ? '<image>' : '<video>';
      return i === 0 && length > 1 ? `${tag}\n` : tag;
    })
    .join('');
}

/** The ending of an image's file, by its first bytes; readers go by them too. */
function endingOf(bytes: Uint8Array): string {
  const head = Buffer.from(bytes.subarray(0, 12)).toString('latin1');
  if (head.startsWith('\xff\xd8')) return 'jpg';
  if (head.startsWith('\x89PNG')) return 'png';
  if (head.startsWith('RIFF')) return 'webp';
  return head.startsWith('GIF8') ? 'gif' : 'img';
}
