import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';

const colours = ['black', 'blue', 'brown', 'gray', 'green', 'red', 'teal', 'yellow'] as const;
const outlines = {
  circle: '<circle cx="32" cy="32" r="14"/>',
  rectangle: '<rect x="16" y="20" width="30" height="22"/>',
  triangle: '<path d="M32 14 50 46 14 46Z"/>',
};

/** Draws as many pictures for each split as said, with questions as easy-VQA has them. Gives a folder that is laid out as its. */
export async function drawings(pictures: { readonly train: number; readonly test: number }): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tinyllava-drawings-'));
  for (const [split, count] of Object.entries(pictures)) {
    await mkdir(join(root, split, 'images'), { recursive: true });
    const questions: [string, string, number][] = [];
    for (let picture = 0; picture < count; picture++) {
      const colour = colours[picture % colours.length] ?? 'black';
      const [shape = '', outline = ''] = Object.entries(outlines)[picture % 3] ?? [];
      const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64" fill="#fdfaf5"/><g fill="${colour}">${outline}</g></svg>`;
      await sharp(Buffer.from(svg))
        .png()
        .toFile(join(root, split, 'images', `${picture}.png`));
      questions.push([`what is the ${colour} shape?`, shape, picture], ['what color is the shape?', colour, picture]);
      questions.push(['is there a circle in the image?', shape === 'circle' ? 'yes' : 'no', picture]);
      questions.push(['is no red shape present?', colour === 'red' ? 'no' : 'yes', picture], [`is there a ${shape}?`, 'yes', picture]);
    }
    await writeFile(join(root, split, 'questions.json'), JSON.stringify(questions));
  }
  return root;
}
