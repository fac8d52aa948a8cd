import { DataError } from '../errors.ts';
import type { ImageSource } from '../processor/message.ts';
import { noGrad } from '../tensor/autograd.ts';
import { cat, tensor } from '../tensor/create.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { ChatModel } from './generate.ts';

/** What a model makes of a prompt. */
export interface PromptLogits {
  /** int64 [T]; an image is its placeholder repeated once for every embedding. */
  readonly inputIds: Tensor;
  /** float32 [T, V] */
  readonly logits: Tensor;
  /** float32 [N, C]: the embeddings of all images, one image behind the other; undefined without images. */
  readonly imageFeatures: Tensor | undefined;
}

/** Scores of every next token of a text without a template, in which `<image>` marks each image. Throws DataError. */
export async function promptLogits(
  { model, processor }: ChatModel,
  { prompt, images = [] }: { prompt: string; images?: readonly ImageSource[] },
): Promise<PromptLogits> {
  const { ids, images: shown } = await processor.readText(prompt, images);
  if (ids.length === 0) throw new DataError('the prompt has no tokens', { hint: 'give some text with --prompt' });
  const layouts = shown.map(({ layout }) => layout);
  const pixels = await Promise.all(shown.map(({ source, layout }) => processor.image.load(source, layout)));
  return noGrad(() => {
    using scope = new Scope();
    const { device } = model.languageModel.headWeight;
    const features = pixels.length === 0 ? undefined : cat(model.imageEmbeddings(model.encodeImages(cat(pixels).to({ device })), layouts));
    const hidden = model.hidden({ ids, lengths: [ids.length], imageFeatures: features });
    return {
      inputIds: scope.keep(tensor(BigInt64Array.from(ids, BigInt))),
      logits: scope.keep(model.logits(hidden).to({ device: 'cpu' })),
      imageFeatures: features && scope.keep(features.to({ dtype: 'float32', device: 'cpu' })),
    };
  });
}
