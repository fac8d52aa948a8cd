import { ShapeError } from '../errors.ts';
import { indices } from '../tensor/create.ts';
import { sizes } from '../tensor/sizes.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Where `imageTokenId` stands in `ids`. */
export function placeholders(ids: Int32Array, imageTokenId: number): number[] {
  const found: number[] = [];
  for (const [row, id] of ids.entries()) if (id === imageTokenId) found.push(row);
  return found;
}

/**
 * Puts image features in the place of the placeholders' embeddings, in order; gradients flow to both. Dims: N tokens, I images of M tokens,
 * C width. `embeddings` [N, C], `rows` the I · M placeholders, `features` [I, M, C]. Throws ShapeError when the counts differ.
 */
export function splice(embeddings: Tensor, rows: readonly number[], features: Tensor): Tensor {
  const [I, M, C] = sizes(features, 'I M C', { C: embeddings.size(1) });
  if (rows.length !== I * M) {
    throw new ShapeError(`${rows.length} image placeholders in the batch, but ${I} images of ${M} tokens each make ${I * M}`, {
      hint: 'each image needs its placeholder repeated once for every token that the connector gives',
    });
  }
  if (rows.length === 0) return embeddings;
  const { dtype, device } = embeddings;
  return embeddings.indexCopy(0, indices(rows).to({ device }), features.reshape(I * M, C).cast(dtype));
}
