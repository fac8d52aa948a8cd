import { upsampleBicubic } from '../../tensor/functional.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** How a square map [1, C, H, W] is resized. */
type Resize = (map: Tensor, size: readonly [height: number, width: number]) => Tensor;

/**
 * Learned positions of a square grid for another grid, square where it is one number, computed in float32; as they are where the grid is theirs.
 * `positions` [P, C] to [rows · columns, C].
 */
export function resizePositions(
  positions: Tensor,
  grid: number | readonly [rows: number, columns: number],
  resize: Resize = upsampleBicubic,
): Tensor {
  const [count, width] = [positions.size(0), positions.size(1)];
  const [rows, columns] = typeof grid === 'number' ? [grid, grid] : grid;
  if (rows === columns && count === rows * columns) return positions;
  const old = Math.round(Math.sqrt(count));
  const map = positions.cast('float32').view(1, old, old, width).permute(0, 3, 1, 2); // [1, C, old, old]
  return resize(map, [rows, columns])
    .permute(0, 2, 3, 1)
    .reshape(rows * columns, width)
    .cast(positions.dtype);
}
