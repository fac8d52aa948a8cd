import { tensor } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** Row i averages the cells that lie in the i-th of `outputs` equal parts of `inputs` cells, those on a border too: [outputs, inputs]. */
function shares(inputs: number, outputs: number): Float32Array {
  const result = new Float32Array(outputs * inputs);
  for (let i = 0; i < outputs; i++) {
    const [start, end] = [Math.floor((i * inputs) / outputs), Math.ceil(((i + 1) * inputs) / outputs)];
    result.fill(1 / (end - start), i * inputs + start, i * inputs + end);
  }
  return result;
}

/** Averages a square map [B, C, S, S] over equal parts, PyTorch's adaptive_avg_pool2d: [B, C, side, side]. */
export function averagePool(map: Tensor, side: number): Tensor {
  const cells = map.size(3);
  const { dtype, device } = map;
  const rows = tensor(shares(cells, side), { shape: [side, cells], dtype, device });
  return rows.matmul(map).matmul(rows.t());
}

/** Tokens of a square image as a map: [B, S · S, C] to [B, C, S, S]. */
export function tokensToMap(tokens: Tensor): Tensor {
  const side = Math.round(Math.sqrt(tokens.size(1)));
  return tokens.transpose(1, 2).reshape(tokens.size(0), tokens.size(2), side, side);
}

/** The inverse of `tokensToMap`. */
export function mapToTokens(map: Tensor): Tensor {
  return map.flatten(2).transpose(1, 2);
}
