import { gradients, isGradEnabled, noGrad } from '../tensor/autograd.ts';
import { full, zeros } from '../tensor/create.ts';
import { crossEntropy, linear } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** A linear head whose logits l become cap · tanh(l / cap). Dims: K rows, C width, V vocabulary. */
export interface CappedHead {
  /** [V, C] */
  readonly weight: Tensor;
  /** [V] */
  readonly bias?: Tensor | undefined;
  readonly cap: number;
}

/**
 * The summed cross-entropy of `hidden` [K, C] against int64 `labels` [K] in float32, holding the logits of `chunk` rows at a time: each
 * chunk's gradients are taken while its logits are there.
 */
export function cappedCrossEntropy(
  hidden: Tensor,
  { weight, bias, cap }: CappedHead,
  labels: Tensor,
  { chunk }: { chunk: number },
): Tensor {
  const inputs = bias ? [hidden, weight, bias] : [hidden, weight];
  const learning = isGradEnabled() && inputs.some(({ requiresGrad }) => requiresGrad);
  const constants = inputs.map((x) => x.detach().requiresGrad_(learning && x.requiresGrad));
  const sums = constants.map((x) => (x.requiresGrad ? zeros(x.shape, { dtype: x.dtype, device: x.device }) : undefined));
  const [h, w, b] = constants as [Tensor, Tensor, Tensor?];
  let total = 0;
  for (let start = 0; start < hidden.size(0); start += chunk) {
    using _scope = new Scope();
    const count = Math.min(chunk, hidden.size(0) - start);
    const rows = h.detach().narrow(0, start, count).requiresGrad_(h.requiresGrad);
    const logits = linear(rows, w, b).cast('float32').div(cap).tanh().mul(cap);
    const loss = crossEntropy(logits, labels.narrow(0, start, count), { reduction: 'sum' });
    total += loss.item();
    if (!learning) continue;
    const wanted = [rows, w, b].flatMap((x, index) => (x?.requiresGrad ? [{ x, index }] : []));
    const found = gradients(
      [loss],
      wanted.map(({ x }) => x),
    );
    noGrad(() => {
      for (const [i, { index }] of wanted.entries()) {
        const sum = index === 0 ? sums[0]?.narrow(0, start, count) : sums[index];
        if (found[i]) sum?.add_(found[i]);
      }
    });
  }
  const value = full([], total, { device: hidden.device });
  if (!learning) return value;
  // The sum of inputs times gradients has these gradients; taken away from itself it adds nothing to the value.
  const products = inputs.flatMap((x, i) => (sums[i] ? [x.reshape(-1).matmul(sums[i].reshape(-1)).cast('float32')] : []));
  const carrier = products.reduce((a, x) => a.add(x));
  return carrier.sub(carrier.detach()).add(value);
}
