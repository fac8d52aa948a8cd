import { supervisedTokens } from '../../src/data/batch.ts';
import { Dataset } from '../../src/data/dataset.ts';
import { viewsOf } from '../../src/model/image-layout.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { openProcessor } from '../../src/processor/open.ts';
import type { Stage } from '../../src/train/recipe.ts';
import { type Kind, spread } from './rows.ts';

/** Rows that a stage goes through, and of what kinds they are. */
export interface Data {
  readonly rows: number;
  readonly kinds: readonly Kind[];
}

// Of the 665,298 conversations 40,688 have no image (haotian-liu/LLaVA issue 657). How texts are spread is assumed; their means fit the sizes of the data, some 1,000
// bytes a conversation and 200 a caption with ids and paths (Hugging Face: TIGER-Lab/llava-data).
const [instructions, textOnly] = [665_298, 40_688];
const maxLength = 2048;

/** The 558,128 captions and the 665,298 conversations of LLaVA-1.5 in tokens, for a model with so many embeddings an image. */
export function llavaData(viewTokens: number): { readonly align: Data; readonly instruct: Data } {
  const pictured = { views: 1, mean: 250, deviation: 200, supervised: 0.5, most: maxLength - viewTokens };
  const plain = { views: 0, mean: 1200, deviation: 900, supervised: 0.7, most: maxLength };
  const share = textOnly / instructions;
  return {
    align: { rows: 558_128, kinds: spread({ views: 1, mean: 22, deviation: 8, supervised: 1, most: maxLength - viewTokens }) },
    instruct: { rows: instructions, kinds: [...spread(pictured, 1 - share), ...spread(plain, share)] },
  };
}

const sampled = 2000;

/** Rows of a file of conversations, spread over it, as the processor of a model's folder reads them. Throws DataError, CheckpointError or ConfigError. */
export async function readData(
  file: string,
  { folder, model, images, stage }: { folder: string; model: TinyLlava; images: string | undefined; stage: Stage },
): Promise<Data> {
  const processor = await openProcessor(folder, model, { template: stage.template });
  using dataset = await Dataset.open(file, images === undefined ? {} : { imageFolder: images });
  const count = Math.min(sampled, dataset.length);
  const kinds: Kind[] = [];
  for (let i = 0; i < count; i++) {
    const { messages } = await dataset.row(Math.floor((i * dataset.length) / count));
    const { ids, labels, images: shown } = processor.truncate(await processor.read(messages, { train: true }), stage.maxLength);
    const views = shown.reduce((sum, { layout }) => sum + viewsOf(layout), 0);
    kinds.push({ share: 1 / count, views, text: ids.length - views * model.viewTokens, supervised: supervisedTokens(labels) });
  }
  return { rows: dataset.length, kinds };
}
