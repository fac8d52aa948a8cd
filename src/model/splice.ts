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
 * Puts image features in the place of the placeholders' embeddings, in order; gradients flow to both. Dims: N tokens, K of them placeholders,
 * C width. `embeddings` [N, C], `rows` the placeholders, `features` [..., C] of K rows. Throws ShapeError when the counts differ.
 */
export function splice(embeddings: Tensor, rows: readonly number[], features: Tensor): Tensor {
  const [K, C] = sizes(features.flatten(0, -2), 'K C', { C: embeddings.size(1) });
  if (rows.length !== K) {
    throw new ShapeError(`${rows.length} image placeholders in the batch, but the images have ${K} embeddings`, {
      hint: 'each image needs its placeholder repeated once for every embedding',
    });
  }
  if (rows.length === 0) return embeddings;
  const { dtype, device } = embeddings;
  return embeddings.indexCopy(0, indices(rows).to({ device }), features.reshape(K, C).cast(dtype));
}
