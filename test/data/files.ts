import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import type { Part } from '../../src/data/rows.ts';

/** A new folder with the files given, JSON where they are not text. */
export async function folderWith(files: Readonly<Record<string, unknown>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-data-'));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await writeFile(join(folder, name), typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content));
  }
  return folder;
}

/** A PNG of one colour. */
export async function colour(red: number, green: number, blue: number, { width = 8, height = 8 } = {}): Promise<Uint8Array> {
  return sharp({ create: { width, height, channels: 3, background: { r: red, g: green, b: blue } } })
    .png()
    .toBuffer();
}

/** A LLaVA row. */
export function row(image: string | string[] | undefined, ...values: string[]): Record<string, unknown> {
  return {
    ...(image !== undefined && { image }),
    conversations: values.map((value, i) => ({ from: i % 2 === 0 ? 'human' : 'gpt', value })),
  };
}

/** Rows in blocks of so many, each of which takes a share of the memory. */
export function partOf(rows: number, { size = rows, memory = 0, ...part }: Partial<Part> & { size?: number; memory?: number } = {}): Part {
  const blocks = Array.from({ length: Math.ceil(rows / size) }, (_, i) => ({ rows: Math.min(size, rows - i * size), memory }));
  return { rows, blocks, ...part };
}
