import type { ImageLayout } from '../model/image-layout.ts';

/** How the embeddings of an image stand in the text: by themselves, or among the tokens that a family of models was trained with. */
export type ImageSpelling = 'plain' | 'idefics3' | 'internvl';

/** The text that stands for an image, in which `imageToken` marks each of the `runs` of its embeddings. */
export function spellImage(
  spelling: ImageSpelling,
  { rows, columns }: ImageLayout,
  { imageToken, runs }: { imageToken: string; runs: number },
): string {
  if (spelling === 'internvl') return `<img>${imageToken.repeat(runs)}</img>`;
  if (spelling === 'plain') return imageToken.repeat(runs);
  // Rows of tiles on lines of their own, as transformers' Idefics3Processor has them.
  const tile = (row: number, column: number): string => `${around}<row_${row + 1}_col_${column + 1}>${imageToken}`;
  const lines = Array.from(
    { length: rows },
    (_, row) => `${Array.from({ length: columns }, (__, column) => tile(row, column)).join('')}\n`,
  );
  return `${lines.join('')}${rows > 0 ? '\n' : ''}${around}<global-img>${imageToken}${around}`;
}

const around = '<fake_token_around_image>';
